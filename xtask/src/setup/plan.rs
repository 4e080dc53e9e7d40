//! Which components belong on this machine. Pure decisions; nothing is looked at or installed here.

use super::component::{
    CLANG_FORMAT, CUDA_LIBRARIES, CUDA_RUNTIME, Component, EFFICIENTNET_LITE0, EFFICIENTNET_LITE1, EFFICIENTNET_LITE2,
    FASHION_MNIST, LIBCLANG, LIBTORCH, NVCC, OPENMOJI,
};

/// What was asked for beyond what every machine gets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    /// CUDA's libraries even where no GPU is seen, as on a cluster's login node.
    pub(crate) cuda: bool,
    /// The CUDA compiler even where no GPU is seen.
    pub(crate) nvcc: bool,
    pub(crate) fashion_mnist: bool,
    pub(crate) efficientnet_lite1: bool,
    pub(crate) efficientnet_lite2: bool,
    pub(crate) libclang: bool,
    pub(crate) clang_format: bool,
}

/// What the plan depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) gpu: bool,
    /// LIBTORCH names another libtorch of the right version, which brings its own CUDA libraries.
    pub(crate) has_own_libtorch: bool,
}

/// How bad it is when a component cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// Left out with a line that says why.
    Optional,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) wanted: Vec<(&'static Component, Need)>,
    /// Components that this machine does without, and why.
    pub(crate) left_out: Vec<(&'static Component, &'static str)>,
}

pub(crate) fn plan(machine: Machine, request: Request) -> Plan {
    let mut plan = Plan::default();
    let cuda = machine.gpu || request.cuda;
    if machine.has_own_libtorch {
        plan.left_out.push((&LIBTORCH, "LIBTORCH is set"));
    } else {
        plan.want(&LIBTORCH, Need::Required);
        plan.want(&CUDA_RUNTIME, Need::Required);
        if cuda {
            plan.want(&CUDA_LIBRARIES, Need::Required);
        } else {
            plan.left_out.push((&CUDA_LIBRARIES, "no GPU; `cargo xtask setup --cuda` installs them all the same"));
        }
    }
    plan.want(&OPENMOJI, Need::Required);
    plan.want(&EFFICIENTNET_LITE0, Need::Optional);
    if cuda || request.nvcc {
        plan.want(&NVCC, Need::Optional);
    } else {
        plan.left_out.push((&NVCC, "no GPU; `cargo xtask setup --nvcc` installs it all the same"));
    }
    if request.libclang {
        plan.want(&LIBCLANG, Need::Required);
    }
    if request.clang_format {
        plan.want(&CLANG_FORMAT, Need::Required);
    }
    if request.fashion_mnist {
        plan.want(&FASHION_MNIST, Need::Required);
    }
    if request.efficientnet_lite1 {
        plan.want(&EFFICIENTNET_LITE1, Need::Required);
    }
    if request.efficientnet_lite2 {
        plan.want(&EFFICIENTNET_LITE2, Need::Required);
    }
    plan
}

impl Plan {
    fn want(&mut self, component: &'static Component, need: Need) {
        self.wanted.push((component, need));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPTOP: Machine = Machine { gpu: false, has_own_libtorch: false };

    fn wanted(machine: Machine, request: Request) -> Vec<&'static str> {
        plan(machine, request).wanted.iter().map(|(component, _)| component.name).collect()
    }

    #[test]
    fn machine_without_a_gpu_gets_neither_cuda_libraries_nor_nvcc() {
        assert_eq!(wanted(LAPTOP, Request::default()), ["libtorch", "cuda-runtime", "openmoji", "efficientnet-lite0"]);
        let left_out = plan(LAPTOP, Request::default()).left_out;
        assert!(left_out.iter().any(|(component, why)| **component == NVCC && why.contains("--nvcc")));
    }

    #[test]
    fn gpu_brings_cuda_libraries_and_nvcc() {
        let all = ["libtorch", "cuda-runtime", "cuda-libraries", "openmoji", "efficientnet-lite0", "nvcc"];
        assert_eq!(wanted(Machine { gpu: true, ..LAPTOP }, Request::default()), all);
        assert_eq!(wanted(LAPTOP, Request { cuda: true, ..Request::default() }), all);
    }

    #[test]
    fn nvcc_and_features_may_be_missing_and_libtorch_may_not() {
        let plan = plan(Machine { gpu: true, ..LAPTOP }, Request::default());
        for (component, need) in plan.wanted {
            let optional = *component == NVCC || *component == EFFICIENTNET_LITE0;
            assert_eq!(need == Need::Optional, optional, "{}", component.name);
        }
    }

    #[test]
    fn own_libtorch_is_kept() {
        let machine = Machine { gpu: true, has_own_libtorch: true };
        assert_eq!(wanted(machine, Request::default()), ["openmoji", "efficientnet-lite0", "nvcc"]);
    }

    #[test]
    fn the_rest_comes_only_when_asked_for() {
        let request = Request {
            cuda: false,
            nvcc: true,
            fashion_mnist: true,
            efficientnet_lite1: true,
            efficientnet_lite2: true,
            libclang: true,
            clang_format: true,
        };
        let extra = &wanted(LAPTOP, request)[4..];
        let all = ["nvcc", "libclang", "clang-format", "fashion-mnist", "efficientnet-lite1", "efficientnet-lite2"];
        assert_eq!(extra, all);
    }
}
