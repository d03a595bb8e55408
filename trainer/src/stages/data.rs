//! The prompts of a job.

use super::safety_prompts;
use crate::learner::Sequence;
use crate::spec::{DataSpec, EvalSplit, GrpoSpec, JobSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_model::{ChatTurn, ModelFolder};
use sinternal_proto::{Prompt, PromptKind};
use sinternal_world::Specification;
use sinternal_world::splits::{Counts, Sizes, splits};
use std::path::{Path, PathBuf};

/// Prompts by use. Empty where a stage does not run.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct JobData {
    /// For `collect`.
    pub collect: Vec<Prompt>,
    /// For GRPO, drawn from without replacement until they run out, then anew.
    pub grpo: Vec<Prompt>,
    /// Of the verifier's labelled answers.
    pub verifier: Vec<Prompt>,
    /// Answers to the prompts of `verifier`, one each, where they come from a file.
    pub labelled: Vec<LabelledAnswer>,
    /// For measurement: in distribution.
    pub eval_id: Vec<Prompt>,
    /// For measurement: held-out wrappers.
    pub eval_ood: Vec<Prompt>,
}

/// An answer whose label is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledAnswer {
    /// With its reasoning, where it has one.
    pub completion: String,
    /// It breaks its prompt's specification.
    pub broken: bool,
}

/// A data file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not readable.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line that does not hold what it must.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Two prompts of one id.
    #[error("{path}: id {id} is there twice")]
    Twice {
        /// The file.
        path: String,
        /// The id.
        id: String,
    },
    /// No line at all.
    #[error("{0}: holds no prompt")]
    Empty(String),
    /// The world cannot make that many.
    #[error("data: {0}")]
    World(#[from] sinternal_world::WorldError),
}

impl JobData {
    /// Reads or generates the prompts that the job's stages use.
    ///
    /// # Errors
    /// A file or line that cannot be used, by name.
    pub fn load(spec: &JobSpec) -> Result<Self, DataError> {
        match &spec.data {
            DataSpec::World { collect_prompts, collect_harmful, grpo_mixture } => {
                world(spec, *collect_prompts, *collect_harmful, *grpo_mixture)
            }
            DataSpec::Gsm8k { path, instruction } => {
                Ok(Self { grpo: read_lines(path, |i, line| gsm8k(i, line, instruction))?, ..Self::default() })
            }
            DataSpec::Prompts { path, collect, labelled } => {
                let rewarded = spec.verifier.is_some();
                let read = |path: &Option<PathBuf>, parse: &dyn Fn(&str) -> Result<Prompt, String>| {
                    path.as_ref().map_or(Ok(Vec::new()), |path| read_lines(path, |_, line| parse(line)))
                };
                let (verifier, labelled) = match labelled {
                    Some(path) => read_lines(path, |_, line| labelled_row(line))?.into_iter().unzip(),
                    None => Default::default(),
                };
                Ok(Self {
                    grpo: read(path, &|line| grpo_row(line, rewarded))?,
                    collect: collect.as_deref().map_or(Ok(Vec::new()), safety_prompts)?,
                    verifier,
                    labelled,
                    ..Self::default()
                })
            }
        }
    }

    /// Renders the longest prompt as the model will see it.
    ///
    /// # Errors
    /// No chat template, or one that fails; a prompt that leaves no room in the context. Names the prompt.
    pub fn check(&self, folder: &ModelFolder) -> Result<(), String> {
        let all = [&self.collect, &self.grpo, &self.verifier, &self.eval_id, &self.eval_ood];
        let length = |p: &&Prompt| p.spec.len() + p.request.len();
        let Some(longest) = all.into_iter().flatten().max_by_key(length) else { return Ok(()) };
        let messages = longest.messages();
        let turns: Vec<ChatTurn<'_>> =
            messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
        let named = |e: String| format!("prompt {}: {e}", longest.id);
        let tokens = folder.tokenizer.encode_chat(&turns, true).map_err(|e| named(e.to_string()))?.len();
        let context = folder.config.max_positions;
        if tokens < context {
            return Ok(());
        }
        Err(named(format!("has {tokens} tokens; the model's context holds {context}")))
    }

    /// Questions with the answers to learn, as STAR-1 publishes them: a JSON array of objects with `question` and
    /// `response`, the reasoning in the response.
    ///
    /// # Errors
    /// The file or row that cannot be used, by name.
    pub fn answers(&self, path: &Path, folder: &ModelFolder) -> Result<Vec<Sequence>, DataError> {
        #[derive(serde::Deserialize)]
        struct Row {
            question: String,
            response: String,
        }
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| DataError::Io { path: name.clone(), source })?;
        let bad = |line: usize, problem: String| DataError::Line { path: name.clone(), line, problem };
        let rows: Vec<Row> = serde_json::from_str(&text).map_err(|e| bad(e.line(), e.to_string()))?;
        if rows.is_empty() {
            return Err(DataError::Empty(name));
        }
        let encoded = rows.iter().enumerate().map(|(i, row)| {
            let encode = || {
                let turns = [ChatTurn { role: "user", content: &row.question }];
                let prompt = folder.tokenizer.encode_chat(&turns, true)?;
                let mut completion = folder.tokenizer.encode(&row.response)?;
                completion.extend(folder.end_of_text.first());
                Ok(Sequence::new(&prompt, &completion))
            };
            encode().map_err(|e: sinternal_model::ModelError| bad(i + 1, format!("row {}: {e}", i + 1)))
        });
        encoded.collect()
    }

    /// The prompts of GRPO's `step`, counted from 0: each kind's share, from a shuffle that is new in every pass
    /// over the data. A function of its arguments alone, so a resumed run draws the same.
    #[must_use]
    pub fn grpo_batch(&self, seed: u64, step: u64, count: usize) -> Vec<&Prompt> {
        let kinds = self.kinds(count);
        let draws = (1..).zip(&kinds).flat_map(|(k, (prompts, n))| {
            let first = step as usize * n;
            (first..first + n).map(move |i| draw(prompts, seed ^ k, i))
        });
        draws.collect()
    }

    /// The prompt that takes the place of the `slot`-th of `step`, the `refill`-th time, counted from 1; of the same kind.
    ///
    /// It continues the order of [`JobData::grpo_batch`] beyond the job's last step: refill r of step s has the place that
    /// it would have in step `steps + s · max_refills + r − 1`. So it takes no other step's prompt, and none of them
    /// depends on how many were refilled before.
    ///
    /// # Panics
    /// When a step has no such slot.
    #[must_use]
    pub fn grpo_refill(&self, seed: u64, spec: &GrpoSpec, step: u64, slot: usize, refill: u32) -> &Prompt {
        let attempt = step * u64::from(spec.dynamic_sampling.max_refills) + u64::from(refill - 1);
        self.grpo_batch(seed, spec.steps + attempt, spec.prompts)[slot]
    }

    /// Prompts of each kind, and how many of `count` a step takes.
    fn kinds(&self, count: usize) -> [(Vec<&Prompt>, usize); 3] {
        let total = self.grpo.len().max(1);
        let of = [PromptKind::Harmful, PromptKind::Benign, PromptKind::Math]
            .map(|kind| self.grpo.iter().filter(|p| p.kind == kind).collect::<Vec<_>>());
        let counts = apportion(count, &of.each_ref().map(|of| of.len() as f64 / total as f64));
        let mut counts = counts.into_iter();
        of.map(|of| (of, counts.next().unwrap_or_default()))
    }
}

/// The i-th prompt of an endless sequence of shuffles.
fn draw<'a>(prompts: &[&'a Prompt], seed: u64, i: usize) -> &'a Prompt {
    let pass = i / prompts.len();
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(pass as u64)));
    prompts[order[i % prompts.len()]]
}

/// Whole numbers that sum to `count`, as near to the shares as can be (largest remainder).
fn apportion(count: usize, shares: &[f64; 3]) -> [usize; 3] {
    let exact = shares.map(|s| s * count as f64);
    let mut counts = exact.map(|e| e.floor() as usize);
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())));
    for &i in order.iter().cycle().take(count - counts.iter().sum::<usize>()) {
        counts[i] += 1;
    }
    counts
}

fn world(spec: &JobSpec, collect: usize, harmful: f64, mixture: [f64; 3]) -> Result<JobData, DataError> {
    let harmful = (collect as f64 * harmful).round() as usize;
    let needed = |g: &GrpoSpec| apportion((g.prompts * g.steps as usize).min(POOL), &mixture);
    let [h, b, m] = spec.grpo.as_ref().map_or([1, 1, 1], needed);
    let items = |split| spec.eval.filter(|eval| eval.split == split).map_or(1, |eval| eval.items);
    let sizes = Sizes {
        sft: Counts { harmful, benign: collect - harmful, math: 0 },
        grpo: Counts { harmful: h, benign: b, math: m },
        verifier: spec.verifier.as_ref().map_or(1, |v| v.gate_answers.div_ceil(4)),
        eval: items(EvalSplit::Test),
        dev: items(EvalSplit::Dev),
    };
    let made = splits(&Specification::default(), spec.seed, &sizes)?;
    let (eval_id, eval_ood) = match spec.eval.map(|eval| eval.split) {
        Some(EvalSplit::Dev) => (made.dev_id, made.dev_ood),
        _ => (made.eval_id, made.eval_ood),
    };
    let craft = |prompts: Vec<Prompt>| prompts.into_iter().filter(|p| p.kind != PromptKind::Math);
    Ok(JobData {
        collect: made.sft,
        grpo: made.grpo,
        verifier: craft(made.verifier_id).chain(craft(made.verifier_ood)).collect(),
        labelled: Vec::new(),
        eval_id,
        eval_ood,
    })
}

/// Distinct prompts that GRPO draws from, at most.
const POOL: usize = 2000;

pub(super) fn read_lines<T>(
    path: &Path,
    parse: impl Fn(usize, &str) -> Result<T, String>,
) -> Result<Vec<T>, DataError> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| DataError::Io { path: name.clone(), source })?;
    let prompts: Vec<T> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| {
            parse(i, line).map_err(|problem| DataError::Line { path: name.clone(), line: i + 1, problem })
        })
        .collect::<Result<_, _>>()?;
    if prompts.is_empty() { Err(DataError::Empty(name)) } else { Ok(prompts) }
}

/// A line of the prompts for GRPO; `rewarded` where a verifier rewards safety prompts.
fn grpo_row(line: &str, rewarded: bool) -> Result<Prompt, String> {
    let prompt: Prompt = serde_json::from_str(line).map_err(|e| e.to_string())?;
    match (prompt.kind, &prompt.gold) {
        (PromptKind::Math, None) => Err("gold: is missing".into()),
        (PromptKind::Harmful | PromptKind::Benign, _) if !rewarded => {
            Err("kind: safety prompts need a [verifier] section to reward their answers".into())
        }
        _ => Ok(prompt),
    }
}

pub(super) fn safety_row(line: &str) -> Result<Prompt, String> {
    let prompt: Prompt = serde_json::from_str(line).map_err(|e| e.to_string())?;
    match prompt.kind {
        PromptKind::Math => Err("kind: must be harmful or benign; only safety prompts are critiqued".into()),
        PromptKind::Harmful | PromptKind::Benign => Ok(prompt),
    }
}

fn labelled_row(line: &str) -> Result<(Prompt, LabelledAnswer), String> {
    let mut row: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).map_err(|e| e.to_string())?;
    let mut take = |key: &str| row.remove(key).ok_or(format!("{key}: is missing"));
    let (completion, broken) = (take("completion")?, take("unsafe")?);
    let completion = completion.as_str().ok_or("completion: must be a text")?.to_owned();
    let broken = broken.as_bool().ok_or("unsafe: must be true or false")?;
    let prompt = safety_row(&serde_json::Value::Object(row).to_string())?;
    Ok((prompt, LabelledAnswer { completion, broken }))
}

fn gsm8k(index: usize, line: &str, instruction: &str) -> Result<Prompt, String> {
    #[derive(serde::Deserialize)]
    struct Row {
        question: String,
        answer: String,
    }
    let row: Row = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let (_, gold) = row.answer.rsplit_once("####").ok_or("answer: holds no `#### <number>`")?;
    let request =
        if instruction.is_empty() { row.question } else { format!("{}\n{instruction}", row.question) };
    Ok(Prompt {
        id: format!("gsm8k-{index}"),
        kind: PromptKind::Math,
        spec: String::new(),
        request,
        gold: Some(gold.trim().into()),
        must_use: Vec::new(),
        family: "gsm8k".into(),
        truth: serde_json::Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DynamicSampling;

    #[test]
    fn shares_by_largest_remainder() {
        assert_eq!(apportion(24, &[0.35, 0.45, 0.2]), [8, 11, 5]);
        assert_eq!(apportion(3, &[0.0, 0.0, 1.0]), [0, 0, 3]);
    }

    fn data() -> JobData {
        let prompt = |i: usize, kind| Prompt {
            id: i.to_string(),
            kind,
            spec: String::new(),
            request: String::new(),
            gold: None,
            must_use: Vec::new(),
            family: String::new(),
            truth: serde_json::Value::Null,
        };
        let kinds = [PromptKind::Harmful, PromptKind::Benign];
        JobData { grpo: (0..10).map(|i| prompt(i, kinds[i % 2])).collect(), ..JobData::default() }
    }

    #[test]
    fn a_pass_sees_every_prompt_once_and_a_step_is_reproducible() {
        let data = data();
        let ids = |step| data.grpo_batch(7, step, 2).iter().map(|p| p.id.clone()).collect::<Vec<_>>();
        let mut pass: Vec<String> = (0..5).flat_map(ids).collect();
        pass.sort();
        assert_eq!(pass, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!(ids(3), ids(3));
    }

    #[test]
    fn refills_are_of_the_same_kind_and_go_on_where_the_steps_end() {
        let data = data();
        let dynamic_sampling = DynamicSampling { max_refills: 2 };
        let spec = JobSpec::default().grpo.unwrap();
        let spec = GrpoSpec { steps: 3, prompts: 2, dynamic_sampling, ..spec };
        let id = |step, slot, refill| data.grpo_refill(7, &spec, step, slot, refill).id.clone();
        // Five prompts of each kind: the three steps take three, the first step's refills the two that are left.
        let steps = (0..3).flat_map(|step| data.grpo_batch(7, step, 2)).map(|p| p.id.clone());
        let mut pass: Vec<String> =
            steps.chain([id(0, 0, 1), id(0, 0, 2), id(0, 1, 1), id(0, 1, 2)]).collect();
        pass.sort();
        assert_eq!(pass, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
        // The next step's are those of the pass after that.
        let later = [id(1, 0, 1), id(1, 0, 2), id(2, 0, 1), id(2, 0, 2)];
        assert_eq!(later.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        for (step, refill) in [(0, 1), (1, 2), (2, 1)] {
            assert_eq!(data.grpo_refill(7, &spec, step, 0, refill).kind, PromptKind::Harmful);
            assert_eq!(data.grpo_refill(7, &spec, step, 1, refill).kind, PromptKind::Benign);
            assert_eq!(id(step, 1, refill), id(step, 1, refill));
        }
    }

    #[test]
    fn gsm8k_rows() {
        let row = r#"{"question": "What is 2 + 2?", "answer": "Two and two.\n#### 1,004"}"#;
        let prompt = gsm8k(3, row, "Box it.").unwrap();
        assert_eq!((prompt.gold.as_deref(), &*prompt.request), (Some("1,004"), "What is 2 + 2?\nBox it."));
        assert!(gsm8k(0, r#"{"question": "q", "answer": "4"}"#, "").unwrap_err().contains("####"));
    }

    #[test]
    fn labelled_answers_bring_prompt_answer_and_label() {
        let line =
            r#"{"id": "a", "kind": "harmful", "request": "do x", "completion": "no", "unsafe": false}"#;
        let (prompt, answer) = labelled_row(line).unwrap();
        assert_eq!((&*prompt.id, prompt.kind, &*prompt.request), ("a", PromptKind::Harmful, "do x"));
        assert_eq!(answer, LabelledAnswer { completion: "no".into(), broken: false });
        for (from, to, expected) in [
            ("\"unsafe\": false", "\"unsafe\": 0", "unsafe: must be true or false"),
            (", \"unsafe\": false", "", "unsafe: is missing"),
            ("harmful", "math", "kind: must be harmful or benign"),
            ("request", "ask", "unknown field `ask`"),
        ] {
            let error = labelled_row(&line.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let safety = r#"{"id": "a", "kind": "benign", "request": "do x"}"#;
        assert!(grpo_row(safety, true).is_ok());
        assert!(grpo_row(safety, false).unwrap_err().contains("need a [verifier] section"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        std::fs::write(&path, "\n{\"id\": 3}\n").unwrap();
        let error = read_lines(&path, |_, line| grpo_row(line, false)).unwrap_err().to_string();
        assert!(error.contains("p.jsonl:2:"), "{error}");
    }

    mod foreign {
        use super::*;
        use proptest::prelude::*;
        use proptest::sample::Index;
        use proptest::test_runner::RngSeed;

        /// Whatever the line is, each reader gives a row or an error.
        fn read_as_everything(line: &str) {
            drop(grpo_row(line, true));
            drop(safety_row(line));
            drop(labelled_row(line));
            drop(gsm8k(0, line, "Box it."));
        }

        const LINES: [&str; 3] = [
            r#"{"id": "a", "kind": "math", "spec": "s", "request": "1 + 1", "gold": "2", "must_use": ["x"], "truth": {}}"#,
            r#"{"id": "a", "kind": "harmful", "request": "do x", "completion": "no", "unsafe": false}"#,
            r#"{"question": "What is 2 + 2?", "answer": "Two and two.\n#### 1,004"}"#,
        ];

        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 512, rng_seed: RngSeed::Fixed(20_260_602), failure_persistence: None, ..ProptestConfig::default()
            })]

            #[test]
            fn any_line_is_a_row_or_an_error(line in "(?s).{0,60}|([\\[\\]{}:,\"]|null|1e999|\"[a-z]{0,3}\"|\\\\u[0-9a-f]{4}){0,40}") {
                read_as_everything(&line);
            }

            #[test]
            fn a_changed_line_is_a_row_or_an_error(
                line in prop::sample::select(&LINES[..]), at in any::<Index>(), removed in 0usize..12, put in "(?s).{0,4}|null|\\[\\]|-1",
            ) {
                let chars: Vec<char> = line.chars().collect();
                let at = at.index(chars.len());
                let after = (at + removed).min(chars.len());
                let changed: String =
                    chars[..at].iter().copied().chain(put.chars()).chain(chars[after..].iter().copied()).collect();
                read_as_everything(&changed);
            }
        }
    }
}
