//! Several processes that train together, by Gloo on the CPU, are one: the same losses and weights to rounding, however the work and the
//! state are split; and what is lost with one of them is found in the last checkpoint.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use common::{Place, free_port, place_variables, text, train_arguments, wait_while_running};

const SNAPSHOT: &str = "snapshots/000000000048.safetensors";
/// Batches of 6 do not divide by 4. Without a larger `eps`, Adam would make steps of full size of gradients that are nothing but rounding.
const SETTINGS: [&str; 8] = [
    "train.images=48",
    "train.batch_size=6",
    "train.micro_batch_size=2",
    "train.eps=1e-3",
    "train.log_every_steps=1",
    "train.checkpoint_every_images=12",
    "train.distributed.start_timeout_s=30",
    "train.distributed.timeout_s=30",
];

fn settings(more: &[&'static str]) -> Vec<&'static str> {
    SETTINGS.iter().chain(more).flat_map(|setting| ["--set", *setting]).collect()
}

fn split(how: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    [settings(more), vec!["--set", how, "--set", "train.distributed.bucket_mb=0.01"]].concat()
}

const NONE: &str = "train.distributed.split=\"none\"";
const OPTIMIZER: &str = "train.distributed.split=\"optimizer\"";
const GRADIENTS: &str = "train.distributed.split=\"gradients\"";
const PARAMETERS: &str = "train.distributed.split=\"parameters\"";

/// Losses and gradient norms of a run.
fn log(place: &Place, run: &str) -> Vec<[f64; 2]> {
    let text = fs::read_to_string(place.path(run).join("log.jsonl")).unwrap();
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(parse).map(|line| ["loss", "grad_norm"].map(|key| line[key].as_f64().unwrap())).collect()
}

/// The weights of a snapshot, one after the other.
fn weights(place: &Place, run: &str) -> Vec<f32> {
    let bytes = fs::read(place.path(run).join(SNAPSHOT)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort();
    let values = names.iter().flat_map(|name| tensors.tensor(name).unwrap().data().to_vec());
    values.collect::<Vec<u8>>().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Both runs took the same steps to rounding.
fn assert_same(place: &Place, one: &str, other: &str) {
    let (ours, theirs) = (log(place, one), log(place, other));
    assert_eq!((ours.len(), theirs.len()), (8, 8), "{one} {other}");
    for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-4 * ours, "{other}, step {step}: {ours} {theirs}");
        }
    }
    let (ours, theirs) = (weights(place, one), weights(place, other));
    let apart = ours.iter().zip(&theirs).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(ours.len() == theirs.len() && apart < 1e-5, "{other}: the weights differ by {apart}");
}

fn ends(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

#[test]
fn any_number_of_processes_and_any_split_train_as_one_does() {
    let place = Place::new();
    let averages = ["ema.sigma_rel=[0.1]", "ema.snapshot_every_images=24"];
    place.train("one", &settings(&averages));
    let averages_of = |run: &str| {
        let bytes = fs::read(place.path(run).join("ema/000000000048.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let values = bytes[header..bytes.len() - 4].chunks(4);
        values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect::<Vec<_>>()
    };
    for (size, run, how) in [
        (2, "two", NONE),
        (4, "four", NONE),
        (2, "slices", GRADIENTS),
        (4, "moments", OPTIMIZER),
        (3, "weights", PARAMETERS),
    ] {
        let printed = place.train_together(size, run, &split(how, &averages));
        let whole =
            printed.contains(&format!("one of {size} processes")) && printed.matches("48 / 48 images").count() == 1;
        assert!(whole, "{printed}");
        assert_same(&place, "one", run);
        let (ours, theirs) = (averages_of("one"), averages_of(run));
        let apart = ours.iter().zip(theirs).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{run}: the averages differ by {apart}");
        let parts = if how == NONE { 0 } else { size };
        assert_eq!(
            place.files(&format!("{run}/checkpoints")).len(),
            3 * (1 + parts),
            "three checkpoints and their parts"
        );
    }
}

#[test]
fn a_run_goes_on_with_other_numbers_of_processes_and_splits() {
    let place = Place::new();
    place.train("one", &settings(&[]));
    // One image at once: two processes have two of a batch and as many passes, two have one.
    place.train_together(4, "cut", &split(GRADIENTS, &["train.images=12", "train.micro_batch_size=1"]));
    place.train_together(2, "cut", &[split(OPTIMIZER, &["train.images=24"]), vec!["--resume"]].concat());
    place.train("cut", &[settings(&["train.images=36"]), vec!["--resume"]].concat());
    // From a checkpoint in one file to parts.
    place.train_together(2, "cut", &[split(PARAMETERS, &[]), vec!["--resume"]].concat());
    assert_same(&place, "one", "cut");

    // A checkpoint in parts is read by everything that reads checkpoints.
    let newest = "cut/checkpoints/000000000048.safetensors";
    let sample = ["sample", "--device", "cpu", "--count", "2", "--out"];
    let output = place.run(&[&sample[..], &["parts.png", "--run", "cut"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let output = place.run(&[&sample[..], &["whole.png", "--weights", &format!("cut/{SNAPSHOT}")]].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(common::picture(&place.path("parts.png")), common::picture(&place.path("whole.png")));
    let output = place.run(&["inspect", newest]);
    assert!(output.status.success(), "{}", text(&output));

    // Without one of its parts it is no checkpoint, and the one before is offered.
    let of_newest = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("000000000048.") && name.ends_with(".1-of-2.shard")
    };
    let part = place.files("cut/checkpoints").into_iter().find(of_newest);
    fs::remove_file(part.unwrap()).unwrap();
    let resume = [&train_arguments("cut")[..], &settings(&["train.images=60"]), &["--resume"]].concat();
    place.fails(&resume, 1, &["48.safetensors is not a checkpoint", "1-of-2.shard is missing", "--resume=older"]);
}

#[test]
fn processes_that_share_images_train_as_one_does() {
    let place = Place::new();
    let large = "model.image_size=16"; // eleven rows and columns of tokens, which divide by nothing
    place.train("one", &settings(&[large]));
    let sharing = |how, more: &[&'static str]| split(how, &[&[large], more].concat());
    let [two, three] = ["train.distributed.sequence_parallel=2", "train.distributed.sequence_parallel=3"];
    place.train_together(2, "two", &sharing(NONE, &[two]));
    assert_same(&place, "one", "two");
    // All of three, of which each runs blocks again in the backward pass, and then two groups of two.
    place.train_together(3, "cut", &sharing(GRADIENTS, &[three, "train.recompute_blocks=2", "train.images=24"]));
    place.train_together(4, "cut", &[sharing(PARAMETERS, &[two]), vec!["--resume"]].concat());
    assert_same(&place, "one", "cut");

    let refused = |size: usize, more: &[&'static str]| {
        let mut command = place.command(&[train_arguments("x"), settings(more)].concat());
        place_variables(&mut command, 0, size, free_port());
        let output = command.output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        text(&output)
    };
    for (size, more, problem) in [
        (3, &[large, two][..], "sequence_parallel must divide the number of processes, 3, got 2"),
        (3, &[three], "at 8 x 8: the network's `x` must be large enough to be split over 3 processes"),
        (2, &["model.preset=\"dit_s_2\"", two], "sequence parallelism is for DiM"),
        (2, &["model.preset=\"dit_s_2\"", PARAMETERS], "parameters are split for DiM alone"),
    ] {
        let printed = refused(size, more);
        assert!(printed.contains(problem), "{printed}");
    }
}

#[test]
fn a_lost_process_is_named_and_the_launcher_s_next_attempt_goes_on() {
    let place = Place::new();
    let longer = ["train.images=6000", "train.checkpoint_every_images=6", "train.log_every_steps=100"];
    let arguments = [train_arguments("cut"), split(GRADIENTS, &longer)].concat();
    let mut children = place.start_together(3, 0, |_| arguments.clone());
    wait_while_running(&mut children[0], || {
        place.files("cut/checkpoints").iter().filter(|path| path.extension().unwrap() == "safetensors").count() >= 3
    });
    let killed = Instant::now();
    children[1].kill().unwrap(); // SIGKILL, likely in the middle of a save: there is one at every step
    let outputs = ends(children);
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
    for rank in [0, 2] {
        let printed = text(&outputs[rank]);
        assert_eq!(outputs[rank].status.code(), Some(1), "{printed}");
        assert!(printed.contains(&format!("failed on rank {rank} (host{rank}): lost rank 1 (host1)")), "{printed}");
    }

    // Parts that some had written before the others were gone, and a file that was being written.
    let whole: Vec<_> =
        place.files("cut/checkpoints").into_iter().filter(|path| path.extension().unwrap() == "safetensors").collect();
    let orphan = place.path("cut/checkpoints/000000099999.abc.0-of-3.shard");
    let leftover = place.path("cut/checkpoints/.000000099999.abc.1-of-3.shard-1.tmp");
    fs::write(&orphan, b"a part").unwrap();
    fs::write(&leftover, b"half a p").unwrap();
    let last = whole.last().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
    let end = format!("train.images={}", last.parse::<u64>().unwrap() + 12);
    let again = [arguments.clone(), vec!["--set", &end]].concat();
    let outputs = ends(place.start_together(2, 1, |_| again.clone()));
    for output in &outputs {
        assert!(output.status.success(), "{}", text(output));
    }
    let printed = text(&outputs[0]);
    assert!(printed.contains("resumed after") && printed.contains(&format!("{last}.safetensors")), "{printed}");
    assert!(!orphan.exists() && !leftover.exists());
}

#[test]
fn processes_that_do_not_fit_together_say_so_in_time() {
    let place = Place::new();
    let plain = [train_arguments("x"), settings(&[])].concat();
    let quick = [plain.clone(), vec!["--set", "train.distributed.start_timeout_s=2"]].concat();

    // Another setting in one of them.
    let other = [plain.clone(), vec!["--set", "train.lr=0.5"]].concat();
    let outputs = ends(place.start_together(2, 0, |rank| if rank == 1 { other.clone() } else { plain.clone() }));
    for (output, ours, theirs) in [(&outputs[0], "lr = 0.001", "lr = 0.5"), (&outputs[1], "lr = 0.5", "lr = 0.001")] {
        let printed = text(output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("do not agree") && printed.contains(ours) && printed.contains(theirs), "{printed}");
    }

    // Another number of processes.
    let port = free_port();
    let start = |rank, size| {
        let mut command = place.command(&plain);
        place_variables(&mut command, rank, size, port);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let outputs = ends(vec![start(0, 2), start(1, 3)]);
    for output in &outputs {
        let printed = text(output);
        assert!(printed.contains("`processes 2`") && printed.contains("`processes 3`"), "{printed}");
    }

    // Nobody at the address, and nobody but one.
    for (rank, problem) in [(1, "nobody answers there within 2 s"), (0, "after 2 s rank 1 had not come")] {
        let begun = Instant::now();
        let mut command = place.command(&quick);
        place_variables(&mut command, rank, 2, free_port());
        let output = command.output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains(problem) && printed.contains(&format!("rank {rank} of 2 on host{rank}")), "{printed}");
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    }

    // More processes than images in a batch.
    let mut command = place.command(&plain);
    place_variables(&mut command, 6, 7, free_port());
    let printed = text(&command.output().unwrap());
    assert!(printed.contains("train.batch_size must be at least the number of processes, 7, got 6"), "{printed}");
    assert!(place.files("x").is_empty(), "nothing was written");
}

#[test]
fn processes_draw_an_image_together_as_one_draws_it() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let command = ["sample", "--device", "cpu", "--run", "run", "--count", "3", "--batch-size", "2", "--seed", "4"];
    let guided = ["--size", "20x26", "--cfg-scale", "3", "--steps", "6", "--out"];
    let alone = place.run(&[&command[..], &guided, &["one.png", "--threads", "1", "--sequence-parallel"]].concat());
    assert!(alone.status.success(), "{}", text(&alone));
    let one = common::picture(&place.path("one.png"));
    for size in [2, 3] {
        place.run_together(size, &[&command[..], &guided, &["all.png", "--sequence-parallel"]].concat());
        let all = common::picture(&place.path("all.png"));
        let apart = one.2.iter().zip(&all.2).map(|(one, other)| one.abs_diff(*other)).max();
        assert!((one.0, one.1, one.2.len()) == (all.0, all.1, all.2.len()) && apart <= Some(1), "{size}: {apart:?}");
    }

    let fresh =
        ["sample", "--untrained", "--config", "config.toml", "--device", "cpu", "--class", "0", "--sampler", "ddim"];
    let timed = ["--steps", "4", "--sequence-parallel", "--json", "--time-steps", "--out", "fresh.png"];
    let output = place.run_together(2, &[&fresh[..], &timed].concat());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = told["step_seconds"].as_array().unwrap();
    assert!(steps.len() == 4 && steps.iter().all(|step| step.as_f64() > Some(0.0)), "{told}");
    assert_eq!((&told["processes"], &told["drawn"]), (&2.into(), &told["images"]));

    // Without one or the other it is not clear what is meant, and what is too small is told by all.
    let plain = ends(place.start_together(2, 0, |_| command.to_vec()));
    let printed = text(&plain[1]);
    assert_eq!(plain[1].status.code(), Some(2), "{printed}");
    assert!(printed.contains("2 processes draw either") && printed.contains("`--sequence-parallel`"), "{printed}");
    let small = ends(place.start_together(3, 0, |_| [&command[..], &["--sequence-parallel"]].concat()));
    assert!(small.iter().all(|output| text(output).contains("large enough to be split over 3 processes")));
}

#[test]
fn processes_share_the_images_of_a_folder_and_go_on_with_it() {
    let place = Place::new();
    place.train("run", &["--set", "train.images=8"]);
    let command = |folder| {
        ["sample", "--device", "cpu", "--run", "run", "--count", "7", "--batch-size", "2", "--json", "--folder", folder]
    };
    let alone = place.run(&[&command("one")[..], &["--threads", "1", "--out", "one.png"]].concat());
    assert!(alone.status.success(), "{}", text(&alone));
    let together = |picture: &str| {
        let output = place.run_together(2, &[&command("two")[..], &["--out", picture]].concat());
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(together("two.png")["drawn"], 7);
    let contents = |folder: &str| -> Vec<_> {
        place.files(folder).iter().map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap())).collect()
    };
    assert_eq!(contents("one").len(), 7);
    assert!(contents("one") == contents("two"), "the same bytes");
    assert_eq!(fs::read(place.path("one.png")).unwrap(), fs::read(place.path("two.png")).unwrap());

    for lost in ["two/000001.png", "two/000006.png"] {
        fs::remove_file(place.path(lost)).unwrap();
    }
    let again = together("again.png");
    assert_eq!((&again["drawn"], &again["images"]), (&2.into(), &7.into()));
    assert!(contents("one") == contents("two"), "the same bytes");
}
