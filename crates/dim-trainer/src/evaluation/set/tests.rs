//! Sets that go on from their files, and of several processes.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use dim_eval::EvalError;
use dim_eval::features::{FeatureExtractor, Input};
use dim_torch::distributed::{Place, Timeouts, World};

use super::*;

/// Sees nothing: what it would see is made up by the test.
struct Blind;

impl FeatureExtractor for Blind {
    fn name(&self) -> &'static str {
        "blind"
    }

    fn input(&self) -> Input {
        Input::AnySize
    }

    fn preprocessing(&self) -> &'static str {
        "none"
    }

    fn dimension(&self) -> usize {
        5
    }

    fn spatial_dimension(&self) -> Option<usize> {
        Some(3)
    }

    fn classes(&self) -> Option<usize> {
        Some(4)
    }

    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        Ok(pixels.shallow_clone())
    }

    fn see(&self, _: &Tensor) -> Result<Seen, EvalError> {
        unreachable!("nothing is shown to it")
    }
}

fn seen(first: i64, count: i64) -> Seen {
    let of = |dimension: i64| {
        let all = Tensor::arange(100 * dimension, (Kind::Float, Device::Cpu)).view([100, dimension]);
        (all * 1.7).sin().narrow(0, first, count)
    };
    Seen { features: of(5), spatial: Some(of(3)), logits: Some(of(4)) }
}

fn bits(set: &Set, path: &Path) -> Vec<u8> {
    set.save(path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn set_that_goes_on_from_a_file_is_the_one_that_was_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
    let weights = FileIdentity { file: "blind".to_owned(), sha256: "00".to_owned() };
    let extractor = Extractor { network: Box::new(Blind), weights };
    let needs = Needs { spatial: true, score_parts: Some(3), kept: 50 };
    let subject = serde_json::json!({ "seed": 1 });
    let mut whole = Set::new(&extractor, needs, 70, Device::Cpu, subject).unwrap();
    whole.add(&seen(0, 30), &[[8, 6]; 30]).unwrap();
    whole.save(&path).unwrap();
    let mut resumed = Set::load(&path, Device::Cpu).unwrap();
    assert_eq!((resumed.count(), resumed.images, resumed.holds()), (30, 70, whole.holds()));
    assert!(resumed.score().is_err(), "not all images have come");
    for set in [&mut whole, &mut resumed] {
        set.add(&seen(30, 40), &[[8, 6]; 40]).unwrap();
    }
    assert_eq!(bits(&whole, &path), bits(&resumed, &other));
    assert_eq!(resumed.kept().unwrap().unwrap().size(), [50, 5]);
    assert_eq!((resumed.resolution, resumed.score().unwrap()), (Some([8, 6]), whole.score().unwrap()));

    let mut cut = std::fs::read(&path).unwrap();
    cut.truncate(cut.len() - 9);
    std::fs::write(&path, cut).unwrap();
    assert!(Set::load(&path, Device::Cpu).is_err());
}

/// Threads as processes, each with connections of its own.
#[test]
fn sets_of_several_processes_are_that_of_one() {
    let size = 3;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let empty = || {
        let weights = FileIdentity { file: "blind".to_owned(), sha256: "00".to_owned() };
        let extractor = Extractor { network: Box::new(Blind), weights };
        let needs = Needs { spatial: true, score_parts: Some(3), kept: 50 };
        Set::new(&extractor, needs, 70, Device::Cpu, serde_json::Value::Null).unwrap()
    };
    // One process has no image at all.
    let shares = [(0, 30), (30, 0), (30, 40)];
    let work = |rank: usize| {
        let (address, host) = ("127.0.0.1".to_owned(), format!("host{rank}"));
        let (launcher_holds_store, attempt, local_rank) = (false, 0, rank);
        let place = Place { rank, size, local_rank, address, port, launcher_holds_store, attempt, host };
        let patience = Duration::from_secs(30);
        let timeouts = Timeouts { start: patience, operation: patience };
        let world = World::join(&place, Device::Cpu, "same", timeouts).unwrap();
        let (first, count) = shares[rank];
        let mut own = empty().starting_at(first as u64);
        if count > 0 {
            own.add(&seen(first, count), &vec![[8, 6]; count as usize]).unwrap();
        }
        let all = own.gathered(&world).unwrap();
        world.leave().unwrap();
        all
    };
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).next().unwrap()
    });

    let mut one = empty();
    one.add(&seen(0, 70), &[[8, 6]; 70]).unwrap();
    assert_eq!((all.count(), all.resolution, all.holds()), (70, Some([8, 6]), one.holds()));
    for ((name, all), (same, one)) in all.tensors().unwrap().iter().zip(one.tensors().unwrap()) {
        assert_eq!(name, &same);
        let apart = ((all - &one).abs().max() / one.abs().max()).double_value(&[]);
        assert!(all.size() == one.size() && apart < 1e-10, "{name}: {apart:.2e}");
    }
    assert!((all.score().unwrap().unwrap().mean - one.score().unwrap().unwrap().mean).abs() < 1e-10);
}
