//! Which layers the Inception network of FID is made of, and the names and shapes of its weights.
//!
//! Source: Szegedy et al. 2015 (arXiv 1512.00567), as in TensorFlow's release of 2015-12-05 and its port in pytorch-fid 0.3.0
//! (`inception.py`). It differs from torchvision's Inception v3: its average pools divide by the number of real cells, the last
//! block's pool takes the largest value, and it has 1,008 classes.

use dim_torch::ParameterSpec;

/// Features.
pub(super) const FEATURES: i64 = 2048;
/// Classes, some of which mean nothing.
pub(super) const CLASSES: i64 = 1008;

/// Convolution without bias, batch norm, ReLU.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Prefix of its weights.
    pub(super) name: String,
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    /// Rows and columns of the filter.
    pub(super) kernel: [i64; 2],
    pub(super) stride: i64,
    pub(super) padding: [i64; 2],
}

/// What a branch does next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Unit(Unit),
    /// Two units see the same map; their outputs are joined.
    Fork([Unit; 2]),
    /// 3 × 3 at every place, over the cells that are within the image.
    AveragePool,
    /// 3 × 3.
    MaxPool {
        stride: i64,
        padding: i64,
    },
}

/// Branches that see the same map, and whose outputs are joined in their order.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Name of the published module; of the pools between modules the number of channels of what comes out, by which pytorch-fid
    /// calls it.
    pub(super) name: &'static str,
    pub(super) branches: Vec<Vec<Step>>,
}

/// The network from images to the last map.
pub(super) fn blocks() -> Vec<Block> {
    let pool = |name| Block { name, branches: vec![vec![Step::MaxPool { stride: 2, padding: 0 }]] };
    vec![
        stem("Conv2d_1a_3x3", 3, |unit| unit.stride(32, [3, 3], 2)),
        stem("Conv2d_2a_3x3", 32, |unit| unit.valid(32, [3, 3])),
        stem("Conv2d_2b_3x3", 32, |unit| unit.same(64, [3, 3])),
        pool("64"),
        stem("Conv2d_3b_1x1", 64, |unit| unit.valid(80, [1, 1])),
        stem("Conv2d_4a_3x3", 80, |unit| unit.valid(192, [3, 3])),
        pool("192"),
        at_35("Mixed_5b", 192, 32),
        at_35("Mixed_5c", 256, 64),
        at_35("Mixed_5d", 288, 64),
        to_17("Mixed_6a", 288),
        at_17("Mixed_6b", 768, 128),
        at_17("Mixed_6c", 768, 160),
        at_17("Mixed_6d", 768, 160),
        at_17("Mixed_6e", 768, 192),
        to_8("Mixed_7a", 768),
        at_8("Mixed_7b", 1280, Step::AveragePool),
        at_8("Mixed_7c", 2048, Step::MaxPool { stride: 1, padding: 1 }),
    ]
}

/// A module that is one unit.
fn stem(name: &'static str, inputs: i64, unit: impl FnOnce(Named) -> Unit) -> Block {
    Block { name, branches: vec![vec![Step::Unit(unit(Named { name: name.to_owned(), inputs }))]] }
}

fn at_35(name: &'static str, inputs: i64, pooled: i64) -> Block {
    let branch = |steps: Branch| steps.0;
    let new = || Branch::new(name, inputs);
    let branches = vec![
        branch(new().same("branch1x1", 64, [1, 1])),
        branch(new().same("branch5x5_1", 48, [1, 1]).same("branch5x5_2", 64, [5, 5])),
        branch(new().same("branch3x3dbl_1", 64, [1, 1]).same("branch3x3dbl_2", 96, [3, 3]).same(
            "branch3x3dbl_3",
            96,
            [3, 3],
        )),
        branch(new().pool(Step::AveragePool).same("branch_pool", pooled, [1, 1])),
    ];
    Block { name, branches }
}

fn to_17(name: &'static str, inputs: i64) -> Block {
    let new = || Branch::new(name, inputs);
    let branches = vec![
        new().halve("branch3x3", 384).0,
        new().same("branch3x3dbl_1", 64, [1, 1]).same("branch3x3dbl_2", 96, [3, 3]).halve("branch3x3dbl_3", 96).0,
        new().pool(Step::MaxPool { stride: 2, padding: 0 }).0,
    ];
    Block { name, branches }
}

fn at_17(name: &'static str, inputs: i64, narrow: i64) -> Block {
    let new = || Branch::new(name, inputs);
    let branches = vec![
        new().same("branch1x1", 192, [1, 1]).0,
        new()
            .same("branch7x7_1", narrow, [1, 1])
            .same("branch7x7_2", narrow, [1, 7])
            .same("branch7x7_3", 192, [7, 1])
            .0,
        new()
            .same("branch7x7dbl_1", narrow, [1, 1])
            .same("branch7x7dbl_2", narrow, [7, 1])
            .same("branch7x7dbl_3", narrow, [1, 7])
            .same("branch7x7dbl_4", narrow, [7, 1])
            .same("branch7x7dbl_5", 192, [1, 7])
            .0,
        new().pool(Step::AveragePool).same("branch_pool", 192, [1, 1]).0,
    ];
    Block { name, branches }
}

fn to_8(name: &'static str, inputs: i64) -> Block {
    let new = || Branch::new(name, inputs);
    let branches = vec![
        new().same("branch3x3_1", 192, [1, 1]).halve("branch3x3_2", 320).0,
        new()
            .same("branch7x7x3_1", 192, [1, 1])
            .same("branch7x7x3_2", 192, [1, 7])
            .same("branch7x7x3_3", 192, [7, 1])
            .halve("branch7x7x3_4", 192)
            .0,
        new().pool(Step::MaxPool { stride: 2, padding: 0 }).0,
    ];
    Block { name, branches }
}

fn at_8(name: &'static str, inputs: i64, pool: Step) -> Block {
    let new = || Branch::new(name, inputs);
    let branches = vec![
        new().same("branch1x1", 320, [1, 1]).0,
        new().same("branch3x3_1", 384, [1, 1]).fork("branch3x3_2").0,
        new().same("branch3x3dbl_1", 448, [1, 1]).same("branch3x3dbl_2", 384, [3, 3]).fork("branch3x3dbl_3").0,
        new().pool(pool).same("branch_pool", 192, [1, 1]).0,
    ];
    Block { name, branches }
}

/// A branch that grows step by step: its steps, its block's name, channels so far.
struct Branch(Vec<Step>, &'static str, i64);

impl Branch {
    fn new(block: &'static str, inputs: i64) -> Self {
        Self(Vec::new(), block, inputs)
    }

    fn named(&self, name: &str) -> Named {
        Named { name: format!("{}.{name}", self.1), inputs: self.2 }
    }

    fn then(mut self, unit: Unit) -> Self {
        self.2 = unit.outputs;
        self.0.push(Step::Unit(unit));
        self
    }

    /// A unit that keeps the resolution.
    fn same(self, name: &str, outputs: i64, kernel: [i64; 2]) -> Self {
        let unit = self.named(name).same(outputs, kernel);
        self.then(unit)
    }

    /// A unit that halves the resolution.
    fn halve(self, name: &str, outputs: i64) -> Self {
        let unit = self.named(name).stride(outputs, [3, 3], 2);
        self.then(unit)
    }

    fn pool(mut self, pool: Step) -> Self {
        self.0.push(pool);
        self
    }

    /// A row and a column of three, side by side, 384 channels each.
    fn fork(mut self, name: &str) -> Self {
        let half = |letter, kernel| self.named(&format!("{name}{letter}")).same(384, kernel);
        let fork = Step::Fork([half('a', [1, 3]), half('b', [3, 1])]);
        self.2 = 2 * 384;
        self.0.push(fork);
        self
    }
}

/// Where a unit's weights are, and how many channels it sees.
struct Named {
    name: String,
    inputs: i64,
}

impl Named {
    fn same(self, outputs: i64, kernel: [i64; 2]) -> Unit {
        self.unit(outputs, kernel, 1, kernel.map(|side| side / 2))
    }

    fn valid(self, outputs: i64, kernel: [i64; 2]) -> Unit {
        self.unit(outputs, kernel, 1, [0, 0])
    }

    fn stride(self, outputs: i64, kernel: [i64; 2], stride: i64) -> Unit {
        self.unit(outputs, kernel, stride, [0, 0])
    }

    fn unit(self, outputs: i64, kernel: [i64; 2], stride: i64, padding: [i64; 2]) -> Unit {
        Unit { name: self.name, inputs: self.inputs, outputs, kernel, stride, padding }
    }
}

/// Name and shape of every weight; those of the classifier come last.
pub(super) fn specs() -> Vec<ParameterSpec> {
    let mut specs = Vec::new();
    for unit in units() {
        let [rows, columns] = unit.kernel;
        specs.push(ParameterSpec::new(
            format!("{}.conv.weight", unit.name),
            &[unit.outputs, unit.inputs, rows, columns],
        ));
        specs.extend(
            ["weight", "bias", "running_mean", "running_var"]
                .map(|part| ParameterSpec::new(format!("{}.bn.{part}", unit.name), &[unit.outputs])),
        );
    }
    specs.extend(classifier());
    specs
}

/// Those of the classifier, which the features do not need.
pub(super) fn classifier() -> [ParameterSpec; 2] {
    [ParameterSpec::new("fc.weight", &[CLASSES, FEATURES]), ParameterSpec::new("fc.bias", &[CLASSES])]
}

fn units() -> Vec<Unit> {
    let steps = blocks().into_iter().flat_map(|block| block.branches).flatten();
    let units = steps.flat_map(|step| match step {
        Step::Unit(unit) => vec![unit],
        Step::Fork(units) => units.to_vec(),
        Step::AveragePool | Step::MaxPool { .. } => Vec::new(),
    });
    units.collect()
}

/// The key that is ours for a key of pytorch-fid's wrapper, which numbers the modules; `None` for any other key.
///
/// The wrapper has four sequences of modules, and in the first two a pool, which has no weights, behind them.
pub(super) fn of_wrapper(key: &str) -> Option<String> {
    let (block, rest) = key.strip_prefix("blocks.")?.split_once('.')?;
    let (module, rest) = rest.split_once('.')?;
    let [block, module] = [block, module].map(|number| number.parse::<usize>().ok());
    let modules: Vec<&str> = blocks().iter().map(|block| block.name).collect();
    // Where each sequence begins among our blocks, pools counted.
    let start = *[0, 4, 7, 15].get(block?)?;
    let end = [4, 7, 15, modules.len()][block?];
    let name = modules[start..end].get(module?).filter(|name| name.contains('_'))?;
    Some(format!("{name}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_published_size() {
        assert_eq!(units().len(), 94);
        // The published file has a count of batches for each norm, too.
        assert_eq!(specs().len(), 566 - 94);
        let learned = specs().into_iter().filter(|spec| !spec.name.contains("running_"));
        assert_eq!(learned.map(|spec| spec.elements()).sum::<i64>(), 23_850_960);
    }

    #[test]
    fn modules_are_found_by_their_numbers() {
        let of = |key| of_wrapper(key);
        assert_eq!(of("blocks.0.2.conv.weight").as_deref(), Some("Conv2d_2b_3x3.conv.weight"));
        assert_eq!(of("blocks.1.0.bn.bias").as_deref(), Some("Conv2d_3b_1x1.bn.bias"));
        assert_eq!(of("blocks.2.0.branch1x1.bn.bias").as_deref(), Some("Mixed_5b.branch1x1.bn.bias"));
        assert_eq!(of("blocks.2.7.branch_pool.conv.weight").as_deref(), Some("Mixed_6e.branch_pool.conv.weight"));
        assert_eq!(of("blocks.3.2.branch_pool.bn.weight").as_deref(), Some("Mixed_7c.branch_pool.bn.weight"));
        for other in ["blocks.0.3.x", "blocks.4.0.x", "blocks.x.0.y", "fc.weight"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
