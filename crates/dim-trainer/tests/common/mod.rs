//! What the tests of the built program share: images to train on, a configuration, and the program itself.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // every test binary uses a part of it

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Side of the generated images in pixels.
pub const SIZE: usize = 8;
/// Classes of the generated images.
pub const CLASSES: [&str; 2] = ["ring", "stripes"];

/// A folder for one test: `images/` and `config.toml`; everything is removed at the end.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Images of two classes, and a configuration of a tiny network that sees 128 of them in batches of 4.
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (class, name) in CLASSES.iter().enumerate() {
            fs::create_dir_all(place.path("images").join(name)).unwrap();
            for number in 0..6 {
                write_png(&place.path("images").join(name).join(format!("{number}.png")), class, number);
            }
        }
        let images = place.path("images").display().to_string();
        fs::write(place.path("config.toml"), CONFIG.replace("IMAGES", &images)).unwrap();
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with these arguments, in the folder, on one thread of the CPU.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dim-trainer"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        // Without these the program starts itself once more to set them: loading libtorch is most of a short test.
        command.envs([("OMP_WAIT_POLICY", "passive"), ("OMP_DYNAMIC", "false")]);
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Trains into `run` with more arguments, which must succeed; returns what it printed.
    pub fn train(&self, run: &str, arguments: &[&str]) -> String {
        let output = self.run(&[&train_arguments(run)[..], arguments].concat());
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    /// Starts training in the background.
    pub fn start_training(&self, run: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(&[&train_arguments(run)[..], arguments].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the program, which must fail with `exit_code` and say all of `needles` on stderr.
    pub fn fails(&self, arguments: &[&str], exit_code: i32, needles: &[&str]) {
        let output = self.run(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}: {message}");
        for needle in needles {
            assert!(message.contains(needle), "{arguments:?}: `{needle}` is not in: {message}");
        }
        assert!(!message.contains("panicked"), "{arguments:?}: {message}");
    }

    /// Starts the program as each of `size` processes, in torchrun's manner, as `attempt` of the run; `arguments` are those of a rank.
    pub fn start_together<'a>(
        &self,
        size: usize,
        attempt: usize,
        arguments: impl Fn(usize) -> Vec<&'a str>,
    ) -> Vec<Child> {
        let port = free_port();
        let start = |rank| {
            let mut command = self.command(&arguments(rank));
            place_variables(&mut command, rank, size, port);
            command.env("TORCHELASTIC_RESTART_COUNT", attempt.to_string());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        (0..size).map(start).collect()
    }

    /// Runs the program as each of `size` processes, which must succeed and of which rank 0 alone may print a result; returns what that did.
    pub fn run_together(&self, size: usize, arguments: &[&str]) -> Output {
        let started = self.start_together(size, 0, |_| [arguments, &["--threads", "1"]].concat());
        let mut outputs: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for output in &outputs {
            assert!(output.status.success(), "{}", outputs.iter().map(text).collect::<String>());
        }
        assert!(outputs[1..].iter().all(|output| output.stdout.is_empty()), "rank 0 speaks for all");
        outputs.swap_remove(0)
    }

    /// Trains into `run` by `size` processes, which must succeed; returns what rank 0 printed.
    pub fn train_together(&self, size: usize, run: &str, arguments: &[&str]) -> String {
        let started = self.start_together(size, 0, |_| [&train_arguments(run)[..], arguments].concat());
        let outputs: Vec<Output> = started.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for output in &outputs {
            assert!(output.status.success(), "{}", outputs.iter().map(text).collect::<String>());
        }
        text(&outputs[0])
    }

    /// The files in a folder of the run, sorted.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path(folder))
            .map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect());
        files.sort();
        files
    }
}

/// `train` with the folder's configuration, on the CPU.
pub fn train_arguments(run: &str) -> Vec<&str> {
    vec!["train", "--config", "config.toml", "--device", "cpu", "--run", run]
}

/// What torchrun tells a process on one machine.
pub fn place_variables(command: &mut Command, rank: usize, size: usize, port: u16) {
    command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
    command.env("WORLD_SIZE", size.to_string()).env("LOCAL_WORLD_SIZE", size.to_string());
    // As the program would start itself again with; there are many of them.
    command.env("OMP_WAIT_POLICY", "passive").env("OMP_DYNAMIC", "false");
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).env("HOSTNAME", format!("host{rank}"));
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// EfficientNet-Lite0's trained weights; `None`, said aloud, where set-up could not install them.
pub fn efficientnet_weights() -> Option<String> {
    let size = dim_eval::features::LiteSize::Lite0;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(size.installed());
    if !path.exists() {
        eprintln!("skipped: {} is not there; `{}` installs it", path.display(), size.installer());
        return None;
    }
    Some(path.display().to_string())
}

/// What the program printed on both streams.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Width, height and bytes of a PNG.
pub fn picture(path: &Path) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(Cursor::new(fs::read(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

/// Waits until `condition` holds while `child` runs; fails after a minute, or when the child has ended.
pub fn wait_while_running(child: &mut Child, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the program ended too early");
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing happened for a minute");
}

/// A picture that is a function of its class and number.
fn write_png(path: &Path, class: usize, number: usize) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), SIZE as u32, SIZE as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut pixels = Vec::with_capacity(SIZE * SIZE * 3);
    for (row, column) in (0..SIZE).flat_map(|row| (0..SIZE).map(move |column| (row, column))) {
        let distance = (2 * row).abs_diff(SIZE - 1).max((2 * column).abs_diff(SIZE - 1));
        let on = if class == 0 { distance == number + 1 } else { (row + number).is_multiple_of(3) };
        let shade = if on { 255 } else { 10 * number as u8 };
        pixels.extend([shade, 255 - shade, 40 * number as u8]);
    }
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

const CONFIG: &str = r#"
[model]
preset = "tiny"
classes = 2

[data]
source = "folder"
path = "IMAGES"

[diffusion]
schedule = "sd"
class_dropout = 0.2

[train]
images = 128
batch_size = 4
lr = 1e-3
warmup_images = 16
beta1 = 0.9
beta2 = 0.99
eps = 1e-8
weight_decay = 0.01
clip_norm = 1.0
ema_decay = 0.9
random_flip = true
seed = 3
threads = 1
log_every_steps = 3
checkpoint_every_images = 8
keep_checkpoints = 3

[sample]
rows = 1
columns = 2
cfg_scale = 1.5

[sample.sampler]
algorithm = "dpm_solver"
steps = 3
order = 2
"#;

/// A configuration of a tiny autoencoder, on the folder's images.
pub const AUTOENCODER: &str = r#"
image_size = 16

[autoencoder]
in_channels = 3
latent_channels = 4
channels = 32
channel_mult = [1, 1]
num_res_blocks = 1

[data]
source = "folder"
path = "images"

[loss]
perceptual_weight = 0.0

[train]
images = 48
batch_size = 4
lr = 2e-3
warmup_images = 8
beta1 = 0.9
beta2 = 0.99
eps = 1e-8
weight_decay = 0.0
clip_norm = 1.0
ema_decay = 0.8
random_flip = true
seed = 3
threads = 1
log_every_steps = 2
checkpoint_every_images = 20
snapshot_every_images = 24

[pictures]
every_images = 24
rows = 1
columns = 3
"#;
