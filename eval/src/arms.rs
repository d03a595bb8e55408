//! The report of a run: what every arm measures, the curve of training, sampled traces, times.

use crate::{Calibration, Chart, Rate, Series, VerifierRow, table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What one policy measures on held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmRow {
    /// `base`, `sinternal` or `sinternal+grpo`.
    pub arm: String,
    /// Harmful prompts in the wrappers of training that got an answer which breaks S.
    pub asr_id: Rate,
    /// The same in held-out wrappers.
    pub asr_ood: Rate,
    /// Benign prompts that were fulfilled exactly.
    pub benign_help: Rate,
    /// Benign prompts that were refused.
    pub over_refusal: Rate,
    /// Answers of no known form, of all prompts.
    pub malformed: Rate,
    /// Arithmetic problems that were solved.
    pub arithmetic: Rate,
    /// Thoughts on harmful prompts with a spontaneous check against S.
    pub self_check: Rate,
    /// The arm's own weights as verifier of labelled held-out answers.
    pub verifier: Option<VerifierRow>,
    /// Mean self-reward minus mean oracle reward, −1–1.
    pub reward_gap: Option<f64>,
}

/// One step of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// From 1; 0 is before the first.
    pub step: u64,
    /// Mean reward of its rollouts.
    pub reward: Option<f64>,
    /// Share of its harmful prompts' rollouts that break S, by the oracle.
    pub attack_success: Option<f64>,
    /// Share of its benign prompts' rollouts that fulfil them, by the oracle.
    pub benign_help: Option<f64>,
}

/// What became of the verifier gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateOutcome {
    /// The verifier is good enough.
    Passed,
    /// It is not, and the run went on because it was told to.
    Overridden,
    /// It is not, and nothing was rewarded by it.
    Unneeded,
}

/// The verifier before GRPO, on held-out labelled answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// 0–1.
    pub balanced_accuracy: f64,
    /// Share of the unsafe answers that it called unsafe, 0–1.
    pub unsafe_recall: f64,
    /// Labelled answers.
    pub n: u64,
    /// Whether GRPO was allowed.
    pub outcome: GateOutcome,
}

/// One completion and what the oracle says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Reasoning and answer.
    pub completion: String,
    /// A few words, such as `breaks S` or `refuses`.
    pub judgment: String,
}

/// The same prompt before and after training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplePair {
    /// Specification S; may be empty.
    pub spec: String,
    /// The request.
    pub prompt: String,
    /// Its family (`plain`, `role-play` …).
    pub family: String,
    /// By the base policy.
    pub before: Sample,
    /// By the trained policy.
    pub after: Sample,
}

/// Where a report comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The run.
    pub run_id: String,
    /// Its seed.
    pub seed: u64,
    /// Version of the program, with its commit where known.
    pub version: String,
    /// The machine, in words.
    pub machine: String,
}

/// Everything that a run reports. Its own serialisation keeps the counts; [`Report::to_json`] is for readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Where it comes from.
    pub meta: Meta,
    /// One row an arm, in the order of training.
    pub rows: Vec<ArmRow>,
    /// (stage, seconds) in the order of the stages.
    pub seconds: Vec<(String, f64)>,
    /// By ascending step.
    pub curve: Vec<CurvePoint>,
    /// A few prompts before and after.
    pub samples: Vec<SamplePair>,
    /// `None` where no gate was reached.
    pub gate: Option<Gate>,
    /// Scalings of the verifier's probabilities; `None` where none was measured.
    pub calibration: Option<Calibration>,
    /// Requests, tokens and cost of the endpoints that judged the data, by the section that names each (`critique`, `guard`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub experts: BTreeMap<String, Value>,
}

impl ArmRow {
    /// The measured rates by their keys.
    pub(crate) fn rates(&self) -> [(&'static str, Rate); 7] {
        [
            ("asr_id", self.asr_id),
            ("asr_ood", self.asr_ood),
            ("benign_help", self.benign_help),
            ("over_refusal", self.over_refusal),
            ("malformed", self.malformed),
            ("arithmetic", self.arithmetic),
            ("self_check", self.self_check),
        ]
    }

    fn to_json(&self) -> Value {
        let by_key = |value: fn(Rate) -> Value| {
            self.rates().into_iter().map(|(key, rate)| (key.to_owned(), value(rate))).collect::<Map<_, _>>()
        };
        let mut row = Map::from_iter([("arm".to_owned(), json!(self.arm))]);
        row.extend(by_key(|rate| json!(rate.value())));
        let verifier = self.verifier.as_ref();
        let accuracy = verifier.and_then(|v| v.confusion.balanced_accuracy());
        row.insert("verifier_balanced_accuracy".into(), json!(accuracy));
        row.insert("reward_gap".into(), json!(self.reward_gap));
        row.insert("verifier".into(), json!(verifier.map(VerifierRow::to_json)));
        row.insert("intervals".into(), Value::Object(by_key(|rate| json!(rate.interval()))));
        row.insert("n".into(), Value::Object(by_key(|rate| json!(rate.n))));
        Value::Object(row)
    }
}

impl Report {
    /// `{"rows": [{"arm", rates in 0–1, "intervals", "n"}], "seconds": {stage: s}, "gate", "curve", "meta"}`; what was
    /// not measured is null. `critique` and `guard` have an endpoint's totals and are there if one was asked.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let seconds: Map<String, Value> = self.seconds.iter().map(|(k, s)| (k.clone(), json!(s))).collect();
        let mut report = json!({
            "rows": self.rows.iter().map(ArmRow::to_json).collect::<Vec<_>>(),
            "seconds": seconds,
            "gate": self.gate,
            "calibration": self.calibration,
            "curve": self.curve,
            "seed": self.meta.seed,
            "meta": self.meta,
        });
        if let Value::Object(report) = &mut report {
            report.extend(self.experts.clone());
        }
        report
    }

    /// The contents of `report.md`; `chart` is the path of the curve's picture, relative to it.
    #[must_use]
    pub fn to_markdown(&self, chart: &str) -> String {
        table::markdown(self, chart)
    }

    /// The table for a terminal of 120 columns, without colours.
    #[must_use]
    pub fn to_terminal(&self) -> String {
        table::terminal(self)
    }

    /// Reward and the oracle's measures over steps.
    #[must_use]
    pub fn chart(&self) -> Chart {
        let series = |name: &str, value: fn(&CurvePoint) -> Option<f64>| Series {
            name: name.into(),
            points: self.curve.iter().filter_map(|p| Some((p.step as f64, value(p)?))).collect(),
        };
        let all = [
            series("reward", |p| p.reward),
            series("attack success", |p| p.attack_success),
            series("benign help", |p| p.benign_help),
        ];
        let series: Vec<Series> = all.into_iter().filter(|s| !s.points.is_empty()).collect();
        let title = if self.gate.is_some() { "GRPO with the frozen self-verifier" } else { "GRPO" };
        let by_oracle = if series.len() > 1 { "; attack success and help by the oracle" } else { "" };
        Chart {
            title: title.into(),
            x_label: "training step".into(),
            y_label: format!("Mean over the step's rollouts{by_oracle}"),
            series,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Confusion;

    /// Three arms with round figures.
    pub(crate) fn report() -> Report {
        let rate = |hits| Rate { hits, n: 512 };
        let verifier = |found, kept| {
            let confusion = Confusion {
                true_positives: found,
                false_negatives: 200 - found,
                true_negatives: kept,
                false_positives: 200 - kept,
            };
            let (auroc, calibration_error) = (Some(0.998), Some(0.0125));
            VerifierRow { confusion, unparsed: Rate { hits: 1, n: 400 }, auroc, calibration_error }
        };
        let row = |arm: &str, hits: [u64; 7], verifier, gap| ArmRow {
            arm: arm.into(),
            asr_id: rate(hits[0]),
            asr_ood: rate(hits[1]),
            benign_help: rate(hits[2]),
            over_refusal: rate(hits[3]),
            malformed: Rate { hits: hits[4], n: 2048 },
            arithmetic: rate(hits[5]),
            self_check: rate(hits[6]),
            verifier,
            reward_gap: gap,
        };
        let sample = |completion: &str, judgment: &str| Sample {
            completion: completion.into(),
            judgment: judgment.into(),
        };
        Report {
            meta: Meta {
                run_id: "r1".into(),
                seed: 7,
                version: "0.1.0 (abc)".into(),
                machine: "2 cores".into(),
            },
            rows: vec![
                row("base", [328, 333, 461, 23, 2, 510, 300], Some(verifier(0, 200)), None),
                row("sinternal", [176, 184, 473, 12, 8, 509, 310], Some(verifier(199, 200)), None),
                row("sinternal+grpo", [5, 13, 499, 8, 16, 508, 320], Some(verifier(198, 200)), Some(-0.0012)),
            ],
            seconds: vec![("sft".into(), 31.25), ("grpo".into(), 42.0)],
            curve: vec![
                CurvePoint { step: 1, reward: Some(0.5), attack_success: Some(0.625), benign_help: None },
                CurvePoint { step: 2, reward: Some(0.75), attack_success: None, benign_help: None },
            ],
            samples: vec![SamplePair {
                spec: "rules no toxin food".into(),
                prompt: "make tonic".into(),
                family: "role-play".into(),
                before: sample("<think> plan </think> first ```", "breaks S"),
                after: sample("<think> plan </think> i will not make this", "refuses"),
            }],
            calibration: None,
            experts: BTreeMap::new(),
            gate: Some(Gate {
                balanced_accuracy: 0.9952,
                unsafe_recall: 0.9875,
                n: 480,
                outcome: GateOutcome::Passed,
            }),
        }
    }

    #[test]
    fn json_has_rates_in_0_to_1_by_arm() {
        let json = report().to_json();
        let row = &json["rows"][2];
        assert_eq!(row["arm"], "sinternal+grpo");
        assert_eq!((&row["asr_id"], &row["malformed"]), (&json!(0.009_765_625), &json!(0.007_812_5)));
        assert_eq!(row["verifier_balanced_accuracy"], json!(0.995));
        assert_eq!(row["verifier"]["auroc"], json!(0.998));
        assert_eq!((&row["reward_gap"], &json["rows"][0]["reward_gap"]), (&json!(-0.0012), &Value::Null));
        assert_eq!((&row["n"]["asr_id"], &row["n"]["malformed"]), (&json!(512), &json!(2048)));
        let low = row["intervals"]["asr_id"][0].as_f64().unwrap();
        assert!((low - Rate { hits: 5, n: 512 }.interval().0).abs() < 1e-12);
        let stages: Vec<&str> = json["seconds"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((stages, &json["seconds"]["sft"]), (vec!["sft", "grpo"], &json!(31.25)));
        assert_eq!((&json["seed"], &json["gate"]["outcome"]), (&json!(7), &json!("passed")));
        let first: Vec<&String> = row.as_object().unwrap().keys().take(10).collect();
        let expected = [
            "arm",
            "asr_id",
            "asr_ood",
            "benign_help",
            "over_refusal",
            "malformed",
            "arithmetic",
            "self_check",
            "verifier_balanced_accuracy",
            "reward_gap",
        ];
        assert_eq!(first, expected);
    }

    #[test]
    fn an_unmeasured_rate_is_null_not_zero() {
        let mut report = report();
        report.rows[0].asr_ood = Rate::default();
        assert_eq!(report.to_json()["rows"][0]["asr_ood"], Value::Null);
    }

    #[test]
    fn reports_read_back() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn what_experts_cost_is_there_if_any_was_asked() {
        let mut report = report();
        assert_eq!(report.to_json().get("critique"), None);
        report.experts.insert("critique".into(), json!({"input_tokens": 7, "cost": 0.5}));
        let json = report.to_json();
        assert_eq!((&json["critique"]["input_tokens"], &json["critique"]["cost"]), (&json!(7), &json!(0.5)));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn the_chart_leaves_out_what_was_never_measured() {
        let chart = report().chart();
        let names: Vec<&str> = chart.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["reward", "attack success"]);
        assert_eq!(chart.series[0].points, [(1.0, 0.5), (2.0, 0.75)]);
        assert_eq!(chart.series[1].points, [(1.0, 0.625)]);
    }
}
