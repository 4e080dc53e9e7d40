#![allow(clippy::unwrap_used)]
use super::*;
use crate::record::{Mode, Outcome, Role};

/// As the benchmark writes them.
const RUN: &str = r#"{"type":"run","version":1,"device":"NVIDIA H200","device_kind":"cuda","driver":"580.159.04","libtorch":"2.11.0","cpu":"AMD EPYC","threads":2,"precision":"bf16","commit":"abc123","date":"2026-11-25","quick":false,"config":"[sweep]\n","groups":[{"name":"equal published size","note":"the largest","models":["DiM-H/2","absent"]}]}"#;
const POINT: &str = r#"{"type":"point","model":"DiM-H/2","family":"dim","parameters":862407184,"mode":"forward","image_px":1024,"input":[4,128,128],"tokens":4494,"batch":8,"role":"throughput","outcome":"measured","note":null,"macs_per_image":1.0e12,"floor_ms":20.0,"samples_ms":[40.0,39.0,42.0],"median_ms":40.0,"p10_ms":39.2,"p90_ms":41.6,"images_per_s":200.0,"peak_memory_bytes":5000000000}"#;
const FAILED: &str = r#"{"type":"point","model":"DiM-H/2","family":"dim","parameters":862407184,"mode":"training_step","image_px":1024,"input":[4,128,128],"tokens":4494,"batch":1,"role":"latency","outcome":"out_of_memory","note":"batch 1","samples_ms":null}"#;

fn parse(lines: &[&str]) -> Result<Run, ReportError> {
    Run::parse(&lines.join("\n"))
}

fn error(lines: &[&str]) -> String {
    parse(lines).unwrap_err().to_string()
}

#[test]
fn lines_are_read() {
    let run = parse(&[RUN, "", POINT, FAILED, ""]).unwrap();
    assert!(run.warnings.is_empty());
    assert_eq!(run.models(), ["DiM-H/2"]);
    assert_eq!(run.modes(), [Mode::Forward, Mode::TrainingStep]);
    assert_eq!(run.groups()[0].models, ["DiM-H/2"]);
    let point = run.point("DiM-H/2", Mode::Forward, Role::Throughput, 1024).unwrap();
    assert_eq!(point.ms_per_image(), Some([5.0, 4.9, 5.2]));
    assert_eq!(point.teraflops(), Some(400.0));
    assert_eq!(point.floor_share(), Some(0.5));
    assert_eq!(run.points[1].outcome, Outcome::OutOfMemory);
    assert_eq!(run.points[1].note.as_deref(), Some("batch 1"));
}

#[test]
fn later_point_takes_the_place_of_an_earlier_one() {
    let again = POINT.replace("\"batch\":8", "\"batch\":16");
    let run = parse(&[RUN, POINT, FAILED, &again]).unwrap();
    assert_eq!(run.points.iter().map(|point| point.batch).collect::<Vec<_>>(), [16, 1]);
}

#[test]
fn torn_last_line_is_left_out_with_a_warning() {
    for cut in 1..POINT.len() {
        let Some(torn) = POINT.get(..cut) else { continue };
        let run = parse(&[RUN, FAILED, torn]).unwrap();
        assert_eq!((run.points.len(), run.warnings.len()), (1, 1), "cut at {cut}");
        assert!(run.warnings[0].starts_with("line 3 is torn"), "{:?}", run.warnings);
    }
    // A line that has an end was not torn, and a first line that is torn leaves no run.
    assert!(error(&[RUN, &POINT[..50], ""]).starts_with("line 2: not JSON: "));
    assert!(error(&[&RUN[..50]]).starts_with("line 1: not JSON: "));
}

#[test]
fn errors_name_the_line_and_the_field() {
    let second = |point: String| error(&[RUN, &point, POINT]);
    assert_eq!(error(&[]), "there is no line in it; the first must describe the run (`\"type\":\"run\"`)");
    assert_eq!(error(&[POINT]), "line 1: the first line must describe the run (`\"type\":\"run\"`)");
    assert_eq!(
        error(&[&RUN.replace("\"version\":1", "\"version\":2")]),
        "line 1: version 2 of the format; this reads 1"
    );
    assert!(second("garbage".to_owned()).starts_with("line 2: not JSON: expected value (column 1)"));
    assert_eq!(second(POINT.replace("\"tokens\":4494,", "")), "line 2: missing field `tokens`");
    assert!(second(POINT.replace("forward", "backward")).starts_with("line 2: unknown variant `backward`"));
    assert_eq!(second(POINT.replace("\"batch\":8", "\"batch\":0")), "line 2: `batch` must be at least 1");
    assert_eq!(
        second(POINT.replace("[40.0,39.0,42.0]", "[]")),
        "line 2: `samples_ms` of a measured point must hold times above 0"
    );
    assert_eq!(
        second(POINT.replace("\"median_ms\":40.0", "\"median_ms\":null")),
        "line 2: `median_ms` of a measured point must be above 0"
    );
    assert_eq!(
        second(POINT.replace("39.2", "40.5")),
        "line 2: `median_ms` (40) is not between `p10_ms` (40.5) and `p90_ms` (41.6)"
    );
}

#[test]
fn run_may_go_on_by_other_code_but_not_on_another_device() {
    let run = parse(&[RUN, POINT, &RUN.replace("abc123", "def456"), FAILED]).unwrap();
    assert_eq!(run.warnings, ["from line 3 on the run is of commit def456, before that of abc123"]);
    assert_eq!(
        error(&[RUN, &RUN.replace("H200", "H100")]),
        "line 2: the run began on NVIDIA H200 in bf16 and cannot go on on NVIDIA H100 in bf16"
    );
}
