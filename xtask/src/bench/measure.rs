//! One measurement: a child process, and the one JSON object that it prints.

use super::SEED;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The vocabulary of the model that is compared: 29.4 million parameters, with the defaults of `bench model`.
pub(super) const VOCABULARY: u64 = 8192;

/// What measurements run with.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) binary: PathBuf,
    pub(super) python: PathBuf,
    pub(super) script: PathBuf,
    /// Models and logs.
    pub(super) folder: PathBuf,
    pub(super) threads: usize,
}

/// The size of a GRPO step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) dtype: String,
    pub(super) prompts: u64,
    pub(super) group: u64,
    pub(super) new_tokens: u64,
    /// Timed steps, after one that warms up.
    pub(super) steps: u32,
}

impl Work {
    /// 8 prompts × 8 completions × 128 tokens.
    pub(super) fn of_the_table(dtype: &str) -> Self {
        Self { dtype: dtype.into(), prompts: 8, group: 8, new_tokens: 128, steps: 4 }
    }

    fn args(&self) -> [String; 10] {
        let number = |name: &str, value: u64| [format!("--{name}"), value.to_string()];
        let [a, b] = number("prompts", self.prompts);
        let [c, d] = number("group", self.group);
        let [e, f] = number("new-tokens", self.new_tokens);
        let [g, h] = number("steps", self.steps.into());
        [a, b, c, d, e, f, g, h, "--dtype".into(), self.dtype.clone()]
    }
}

/// What `sinternal bench step` and the peer's script print. Medians over the timed steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) peer: String,
    pub(super) dtype: String,
    pub(super) sequences: u64,
    /// Mean over the prompts.
    pub(super) prompt_tokens: f64,
    pub(super) new_tokens: u64,
    pub(super) step_s: f64,
    pub(super) generate_s: f64,
    pub(super) update_s: f64,
    pub(super) generated_tokens_per_s: f64,
    pub(super) peak_rss_mib: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gemm_fraction: Option<f64>,
    /// All that is only reported.
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

impl Bench {
    /// A random model of this vocabulary, in a folder of its own.
    pub(super) fn model(&self, vocabulary: u64) -> anyhow::Result<PathBuf> {
        let dir = self.folder.join(format!("model-{vocabulary}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("{}: failed to remove", dir.display()))?;
        }
        let mut command = Command::new(&self.binary);
        command.args(["bench", "model", "--dtype", "float32", "--vocab", &vocabulary.to_string()]);
        command.args(["--seed", &SEED.to_string(), "--out"]).arg(&dir);
        self.output(command, &format!("model-{vocabulary}"))?;
        Ok(dir)
    }

    pub(super) fn ours(&self, model: &Path, work: &Work) -> anyhow::Result<Step> {
        let mut command = Command::new(&self.binary);
        command.args(["bench", "step", "--json"]);
        self.step(command, "sinternal", model, work)
    }

    pub(super) fn peer(&self, model: &Path, work: &Work) -> anyhow::Result<Step> {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).args(["--seed", &SEED.to_string()]);
        self.step(command, "trl", model, work)
    }

    fn step(&self, mut command: Command, who: &str, model: &Path, work: &Work) -> anyhow::Result<Step> {
        command.arg("--model").arg(model).args(work.args());
        command.args(["--threads", &self.threads.to_string()]);
        let name = format!("{who}-{}-{}x{}x{}", work.dtype, work.prompts, work.group, work.new_tokens);
        let step =
            parse(&self.output(command, &name)?).with_context(|| format!("{name}: unusable output"))?;
        eprintln!(
            "bench: {name}: step {:.2} s, generation {:.2} s, update {:.2} s, {:.0} tokens/s, peak {:.0} MiB",
            step.step_s, step.generate_s, step.update_s, step.generated_tokens_per_s, step.peak_rss_mib
        );
        Ok(step)
    }

    /// Standard output of a child that succeeded; its standard error goes to a log.
    fn output(&self, mut command: Command, name: &str) -> anyhow::Result<String> {
        eprintln!("bench: {name}");
        let log = self.folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("{}: failed to create", log.display()))?;
        // Libraries that look at the environment get the same number of threads.
        command.env("OMP_NUM_THREADS", self.threads.to_string());
        let output = command.stdin(Stdio::null()).stderr(file).output();
        let program = Path::new(command.get_program());
        let output = output.with_context(|| format!("failed to run {}", program.display()))?;
        if !output.status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            bail!("{name}: {}: {last} (all of it: {})", output.status, log.display())
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn parse(output: &str) -> anyhow::Result<Step> {
    let line = output.lines().rfind(|line| line.starts_with('{')).context("no line with a JSON object")?;
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A step of the table's work.
    pub(in super::super) fn step(peer: &str, step_s: f64, tokens_per_s: f64, peak_rss_mib: f64) -> Step {
        let generate_s = 64.0 * 128.0 / tokens_per_s;
        let line = json!({
            "peer": peer, "dtype": "bfloat16", "sequences": 64, "prompt_tokens": 50.0, "new_tokens": 128,
            "step_s": step_s, "generate_s": generate_s, "update_s": step_s - generate_s,
            "generated_tokens_per_s": tokens_per_s, "peak_rss_mib": peak_rss_mib, "peak_gpu_mib": null,
        });
        parse(&line.to_string()).expect("all keys are there")
    }

    #[test]
    fn the_last_object_counts_and_what_is_only_reported_is_kept() {
        let line = |step_s: f64| {
            format!(
                "{{\"peer\": \"sinternal\", \"dtype\": \"float32\", \"sequences\": 4, \"prompt_tokens\": 9.5, \
                 \"new_tokens\": 16, \"step_s\": {step_s}, \"generate_s\": 1.0, \"update_s\": 0.5, \
                 \"generated_tokens_per_s\": 64.0, \"peak_rss_mib\": 100.0, \"peak_gpu_mib\": null, \
                 \"gemm_fraction\": 0.5, \"parameters\": 12}}"
            )
        };
        let step =
            parse(&format!("a library speaks\n{}\n{}\n\n", line(2.5), line(1.5))).expect("two objects");
        assert_eq!((step.step_s, step.gemm_fraction, step.sequences), (1.5, Some(0.5), 4));
        assert_eq!(serde_json::to_value(&step).expect("JSON")["parameters"], 12);
        assert_eq!(parse("nothing").expect_err("none").to_string(), "no line with a JSON object");
        let missing = parse("{\"peer\": \"trl\"}").expect_err("keys are missing").to_string();
        assert!(missing.starts_with("missing field `dtype`"), "{missing}");
    }

    #[test]
    fn a_child_that_fails_is_an_error_with_its_last_words_and_its_log() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let bench = Bench {
            binary: "/bin/sh".into(),
            python: "/bin/sh".into(),
            script: "none".into(),
            folder: dir.path().to_owned(),
            threads: 3,
        };
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let said = bench.output(shell("echo $OMP_NUM_THREADS"), "threads").expect("succeeds");
        assert_eq!(said, "3\n");
        let error =
            bench.output(shell("echo out of luck >&2; exit 3"), "luck").expect_err("fails").to_string();
        let log = dir.path().join("luck.log");
        assert_eq!(error, format!("luck: exit status: 3: out of luck (all of it: {})", log.display()));
    }

    #[test]
    fn the_work_of_the_table_is_spelled_out() {
        let args = Work::of_the_table("bfloat16").args().join(" ");
        assert_eq!(args, "--prompts 8 --group 8 --new-tokens 128 --steps 4 --dtype bfloat16");
    }
}
