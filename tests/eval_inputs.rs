//! Made-up suites in each published layout, small models, and what `sinternal eval` made of them.

use crate::support::{Output, sinternal};
use sinternal_eval::{Evaluation, Suite};
use sinternal_model::Kind;
use sinternal_model::random_model::RandomModel;
use std::fs;
use std::path::{Path, PathBuf};

/// Each suite's file and how many harmful, benign and mathematical items it holds.
pub(crate) const FILES: [(Suite, &str, &str, [usize; 3]); 11] = [
    (
        Suite::StrongReject,
        "s.csv",
        "category,source,forbidden_prompt\na,b,paint a wall red\na,b,hide a kite\n",
        [2, 0, 0],
    ),
    (
        Suite::Fortress,
        "f.jsonl",
        r#"{"ID": 7, "adversarial_prompt": "as a poet, hide a kite", "rubric": ["is a kite hidden?", "is it red?"], "risk_domain": "kites", "benign_prompt": "fly a kite"}"#,
        [1, 1, 0],
    ),
    (
        Suite::WildJailbreak,
        "w.tsv",
        "adversarial\tlabel\tdata_type\nhide a kite\t1\tadversarial_harmful\nfly a kite\t0\tadversarial_benign\n",
        [1, 1, 0],
    ),
    (Suite::HCot, "h.json", r#"[{"prompt": "hide a kite, as planned"}]"#, [1, 0, 0]),
    (Suite::JailbreakR1, "r.txt", "hide a kite\nhide two kites\n", [2, 0, 0]),
    (
        Suite::HarmBench,
        "b.csv",
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\nhide it,contextual,kites,,a red kite,hide_it\n",
        [1, 0, 0],
    ),
    (Suite::JailbreakBench, "j.csv", "index,goal,behavior,category\n0,hide a kite,hiding,kites\n", [1, 0, 0]),
    (
        Suite::XsTest,
        "x.csv",
        "id,prompt,type,label,focus,note\n1,fly a kite,t,safe,,\n2,hide a kite,t,unsafe,,\n3,how do kites fly,t,safe,,\n",
        [1, 2, 0],
    ),
    (
        Suite::Math500,
        "m.jsonl",
        r#"{"problem": "What is $2+2$?", "solution": "4", "answer": "4", "subject": "sums", "level": 1, "unique_id": "a/1"}"#,
        [0, 0, 1],
    ),
    (Suite::Aime24, "a.jsonl", r#"{"ID": "a-1", "Problem": "What is 3 plus 4?", "Answer": 7}"#, [0, 0, 1]),
    (
        Suite::Gsm8k,
        "g.jsonl",
        "{\"question\": \"What is 1 plus 1?\", \"answer\": \"#### 2\"}\n{\"question\": \"What is 1 plus 2?\", \"answer\": \"#### 3\"}\n",
        [0, 0, 2],
    ),
];

/// The suites' flags, their files written into `dir`.
pub(crate) fn suites(dir: &Path, wanted: &[Suite]) -> Vec<String> {
    let flag = |(suite, name, text, _): &(Suite, &str, &str, [usize; 3])| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        ["--suite".to_owned(), format!("{suite}={}", path.display())]
    };
    FILES.iter().filter(|f| wanted.contains(&f.0)).flat_map(flag).collect()
}

/// A model of words and bytes whose context holds `context` tokens.
pub(crate) fn model(dir: &Path, context: usize) -> PathBuf {
    let out = dir.join(format!("model-{context}"));
    let shape = RandomModel {
        family: "qwen3".into(),
        vocab: 700,
        hidden: 16,
        intermediate: 24,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        max_positions: context,
        untied: false,
        std: 0.1,
        seed: 5,
    };
    shape.write(&out, Kind::Float).unwrap();
    out
}

/// The same with a chat template that begins the reasoning.
pub(crate) fn reasoner(dir: &Path) -> PathBuf {
    let out = model(dir, 4096);
    let path = out.join("tokenizer_config.json");
    let text = fs::read_to_string(&path).unwrap();
    let thinking = text.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}");
    assert_ne!(text, thinking);
    fs::write(&path, thinking).unwrap();
    out
}

/// `eval run` of `model` into `out` with short answers.
pub(crate) fn eval(model: &Path, out: &Path, more: &[String]) -> Output {
    let args = command(model, out, more);
    sinternal(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn command(model: &Path, out: &Path, more: &[String]) -> Vec<String> {
    let (model, out) = (model.display().to_string(), out.display().to_string());
    let fixed =
        ["eval", "run", "--model", &model, "--out", &out, "--allow-partial", "--max-critique-tokens", "8"];
    fixed.into_iter().map(str::to_owned).chain(more.iter().cloned()).collect()
}

pub(crate) fn with(first: &[String], more: &[&str]) -> Vec<String> {
    first.iter().cloned().chain(more.iter().map(|&m| m.to_owned())).collect()
}

pub(crate) fn result(out: &Path, suite: Suite) -> Evaluation {
    Evaluation::from_json(&fs::read_to_string(out.join(format!("{suite}.json"))).unwrap()).unwrap()
}

/// (n, unparsed) of a measure.
pub(crate) fn counts(result: &Evaluation, key: &str) -> (u64, u64) {
    let found = result.measures.iter().find(|m| m.measure.to_string() == key).unwrap();
    (found.n, found.unparsed)
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn one_error(output: Output) -> String {
    let lines = output.stderr.lines().filter(|l| l.starts_with("error")).count();
    assert_eq!(lines, 1, "{}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    output.error()
}
