use super::*;
use sinternal_proto::{FinishReason, PromptKind, SampleIndex, SampleOutcome, TaskId};
use std::collections::BTreeMap;

fn metrics(stage: &str, step: u64, reward: f64) -> StepMetrics {
    StepMetrics { stage: stage.into(), step, values: BTreeMap::from([("reward".to_owned(), reward)]) }
}

fn sample() -> Sample {
    Sample {
        stage: "grpo".into(),
        step: 1,
        task: TaskId(7),
        sample: SampleIndex(0),
        kind: PromptKind::Benign,
        family: "plain".into(),
        spec: String::new(),
        request: "a\nb".into(),
        gold: None,
        completion: "c".into(),
        finish: FinishReason::Stop,
        segments: vec![],
        score: SampleOutcome::Masked { masked: "timeout".into() },
        advantage: None,
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn lines_carry_stage_step_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(&dir.path().join("run")).unwrap();
    run.append_metrics(&metrics("grpo", 1, 0.25), 1700).unwrap();
    run.append_sample(&sample()).unwrap();
    assert_eq!(lines(run.metrics()), [r#"{"stage":"grpo","step":1,"time_ms":1700,"reward":0.25}"#]);
    let page = page_of_lines(run.samples(), 0, 9, |_: &Sample| true).unwrap();
    assert_eq!((page.lines, page.next), (vec![sample()], None));
    let page = page_of_lines(run.metrics(), 0, 9, |_: &MetricsLine| true).unwrap();
    assert_eq!(
        (page.lines[0].time_ms, StepMetrics::from(page.lines[0].clone())),
        (1700, metrics("grpo", 1, 0.25))
    );
    assert!(run.checkpoints().is_dir());
}

#[test]
fn a_resumed_run_goes_on_after_its_step() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    for (stage, steps) in [("sft", 2), ("grpo", 4)] {
        for step in 1..=steps {
            run.append_metrics(&metrics(stage, step, 0.0), 0).unwrap();
        }
    }
    // The crash left half a line.
    OpenOptions::new().append(true).open(run.metrics()).unwrap().write_all(b"{\"stage\":\"gr").unwrap();
    run.truncate_after("grpo", 2).unwrap();
    assert_eq!(lines(run.metrics()).len(), 4);
    run.append_metrics(&metrics("grpo", 3, 1.0), 5).unwrap();
    let left = lines(run.metrics());
    assert_eq!(left.len(), 5);
    assert_eq!(left[4], r#"{"stage":"grpo","step":3,"time_ms":5,"reward":1.0}"#);
    // A second handle, as after a restart, appends at the end too.
    RunDir::open(dir.path()).unwrap().append_metrics(&metrics("grpo", 4, 1.0), 6).unwrap();
    assert_eq!(lines(run.metrics()).len(), 6);
}

#[test]
fn what_is_kept_depends_on_the_order_of_time() {
    let text = |places: &[(&str, u64)]| -> String {
        places.iter().map(|(stage, step)| format!("{{\"stage\":\"{stage}\",\"step\":{step}}}\n")).collect()
    };
    let kept =
        |text: &str, stage: &str, step| kept_bytes(text, stage, step).map(|n| text[..n].lines().count());
    let run = text(&[("sft", 1), ("sft", 2), ("grpo", 1), ("grpo", 2)]);
    // The later stage starts over when the resumed stage is before it.
    assert_eq!(kept(&run, "sft", 2).unwrap(), 2);
    assert_eq!(kept(&run, "sft", 1).unwrap(), 1);
    assert_eq!(kept(&run, "grpo", 0).unwrap(), 2);
    assert_eq!(kept(&run, "eval", 3).unwrap(), 4);
    // Samples are not written at every step.
    assert_eq!(kept(&text(&[("grpo", 10), ("grpo", 20)]), "grpo", 15).unwrap(), 1);
    let (line, _) = kept_bytes(&format!("{run}oops\n{run}"), "grpo", 1).unwrap_err();
    assert_eq!(line, 5);
}
