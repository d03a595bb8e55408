//! Which figures of a stage stand together in one chart.

use super::charts::{Form, Line, Plot};
use super::metrics::Stage;

/// Charts under one heading.
#[derive(Debug, PartialEq)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) plots: Vec<Plot>,
}

/// A chart of (key in `metrics.jsonl`, name of the line).
struct Panel {
    title: &'static str,
    form: Form,
    lines: &'static [(&'static str, &'static str)],
}

const fn lines(title: &'static str, lines: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, form: Form::Lines, lines }
}

const REWARD: &[Panel] = &[
    lines(
        "Mean reward",
        &[
            ("reward", "all"),
            ("reward_harmful", "harmful"),
            ("reward_benign", "benign"),
            ("reward_math", "mathematics"),
        ],
    ),
    lines(
        "Components of the reward",
        &[
            ("p_safe", "p safe"),
            ("on_topic", "on topic"),
            ("well_formed", "well formed"),
            ("not_degenerate", "not degenerate"),
            ("correct", "correct"),
        ],
    ),
    lines(
        "Attack success and benign help, by the oracle",
        &[("oracle_attack_success", "attack success"), ("oracle_benign_help", "benign help")],
    ),
    lines(
        "Refused",
        &[
            ("refused", "all safety prompts"),
            ("refused_harmful", "harmful"),
            ("refused_benign", "benign: over-refusal"),
        ],
    ),
    lines("Spread of the critiques' p safe", &[("p_sd", "standard deviation")]),
    lines(
        "Audit: reward by the verifier and by the second judge",
        &[("audit_self_reward", "verifier"), ("audit_reward", "second judge"), ("audit_gap", "gap")],
    ),
    lines(
        "Canaries",
        &[("canaries", "judged"), ("canary_failures", "rewarded"), ("canaries_masked", "masked")],
    ),
];

const OPTIMISATION: &[Panel] = &[
    lines("Loss", &[("loss", "loss")]),
    lines("KL to the reference", &[("kl", "KL")]),
    lines("Entropy", &[("entropy", "entropy")]),
    lines("Gradient norm", &[("grad_norm", "norm before clipping")]),
    lines("Clipped ratios", &[("clip_fraction", "all passes"), ("first_clip_fraction", "first pass")]),
    lines("Learning rate", &[("learning_rate", "rate")]),
    lines(
        "Importance correction",
        &[("importance_corrected", "tokens corrected"), ("importance_effective", "effective share")],
    ),
];

const SAMPLING: &[Panel] = &[
    lines(
        "Sampler against learner, mean distance of log-probabilities",
        &[("logprob_mismatch_mean", "mean")],
    ),
    lines("Sampler against learner, largest distance", &[("logprob_mismatch_max", "largest")]),
    lines("Staleness in versions", &[("staleness", "mean"), ("staleness_max", "largest")]),
    lines("Completion length in tokens", &[("tokens", "mean")]),
    lines("Truncated completions", &[("truncated", "share"), ("overlong_penalty", "mean penalty")]),
    lines(
        "Left out",
        &[
            ("masked", "samples masked"),
            ("zero_variance_groups", "groups without variance"),
            ("too_few_scored_groups", "groups with too few scores"),
            ("overlong_masked", "overlong samples"),
            ("refilled_groups", "groups refilled"),
            ("skipped_updates", "updates skipped"),
        ],
    ),
    lines("Sequences learned from", &[("trained_sequences", "sequences")]),
    Panel {
        title: "Seconds of a step",
        form: Form::Stack,
        lines: &[
            ("seconds_rollout", "rollout and scores"),
            ("seconds_update", "update"),
            ("seconds_publish", "publish"),
        ],
    },
];

const SECTIONS: [(&str, &[Panel]); 3] =
    [("Reward and safety", REWARD), ("Optimisation", OPTIMISATION), ("Sampling and time", SAMPLING)];

/// Parts of other figures, or constants, that have no chart.
const WITHOUT_CHART: [&str; 2] = ["seconds_step", "first_ratio_gap"];

/// The charts of a stage; figures that no chart is made for have one each, under the last heading.
pub(super) fn sections(stage: &Stage) -> Vec<Section> {
    let mut sections: Vec<Section> = SECTIONS
        .iter()
        .map(|(heading, panels)| Section {
            heading,
            plots: panels.iter().filter_map(|p| plot(p, stage)).collect(),
        })
        .collect();
    sections.push(Section { heading: "Other figures", plots: others(stage) });
    sections.retain(|section| !section.plots.is_empty());
    sections
}

fn plot(panel: &Panel, stage: &Stage) -> Option<Plot> {
    let line = |&(key, name): &(&str, &str)| {
        Some(Line { name: name.to_owned(), points: stage.series.get(key)?.clone() })
    };
    let lines: Vec<Line> = panel.lines.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| Plot { title: panel.title.into(), form: panel.form, lines })
}

fn others(stage: &Stage) -> Vec<Plot> {
    let known = |key: &str| {
        let mut all = SECTIONS.iter().flat_map(|(_, panels)| panels.iter()).flat_map(|panel| panel.lines);
        WITHOUT_CHART.contains(&key) || all.any(|(line, _)| *line == key)
    };
    let rest = stage.series.iter().filter(|(key, _)| !known(key));
    rest.map(|(key, points)| Plot {
        title: key.clone(),
        form: Form::Lines,
        lines: vec![Line { name: "value".into(), points: points.clone() }],
    })
    .collect()
}

/// The same figure of several runs, one chart a figure: `runs` are (name, the stage if the run has it). A run has its place in
/// every chart, so that it has the same colour in all.
pub(super) fn side_by_side(runs: &[(&str, Option<&Stage>)]) -> Vec<Section> {
    let chart = |title: String, key: &str| {
        let points =
            |stage: &Option<&Stage>| stage.and_then(|s| s.series.get(key)).cloned().unwrap_or_default();
        let line =
            |(name, stage): &(&str, Option<&Stage>)| Line { name: (*name).to_owned(), points: points(stage) };
        let lines: Vec<Line> = runs.iter().map(line).collect();
        let measured = lines.iter().any(|line| !line.points.is_empty());
        measured.then_some(Plot { title, form: Form::Lines, lines })
    };
    let charts = |panels: &[Panel]| {
        let all = panels.iter().flat_map(|panel| panel.lines.iter().map(move |line| (panel, line)));
        all.filter_map(|(panel, (key, name))| {
            let alone = panel.lines.len() == 1;
            chart(if alone { panel.title.into() } else { format!("{}: {name}", panel.title) }, key)
        })
        .collect()
    };
    let mut sections: Vec<Section> =
        SECTIONS.iter().map(|(heading, panels)| Section { heading, plots: charts(panels) }).collect();
    sections.retain(|section| !section.plots.is_empty());
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(series: &[(&str, f64)]) -> Stage {
        let series = series.iter().map(|&(name, value)| (name.to_owned(), vec![(1.0, value)])).collect();
        Stage { name: "grpo".into(), series, last_ms: 0 }
    }

    fn titles(sections: &[Section]) -> Vec<(&str, Vec<&str>)> {
        sections.iter().map(|s| (s.heading, s.plots.iter().map(|p| p.title.as_str()).collect())).collect()
    }

    #[test]
    fn what_is_not_measured_has_no_chart_and_what_is_not_known_has_one() {
        let stage =
            stage(&[("reward_math", 1.0), ("reward", 0.5), ("seconds_step", 2.0), ("gsm8k_avg@2", 0.75)]);
        let sections = sections(&stage);
        assert_eq!(
            titles(&sections),
            [("Reward and safety", vec!["Mean reward"]), ("Other figures", vec!["gsm8k_avg@2"])]
        );
        let names: Vec<&str> = sections[0].plots[0].lines.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["all", "mathematics"]);
    }

    #[test]
    fn two_runs_share_a_chart_for_each_figure() {
        let (a, b) = (stage(&[("reward", 0.5), ("loss", 0.1)]), stage(&[("reward", 0.75)]));
        let sections = side_by_side(&[("A", Some(&a)), ("B", Some(&b))]);
        assert_eq!(
            titles(&sections),
            [("Reward and safety", vec!["Mean reward: all"]), ("Optimisation", vec!["Loss"])]
        );
        let lines = |s: usize| -> Vec<(&str, Option<f64>)> {
            let lines = sections[s].plots[0].lines.iter();
            lines.map(|l| (l.name.as_str(), l.points.first().map(|p| p.1))).collect()
        };
        assert_eq!(lines(0), [("A", Some(0.5)), ("B", Some(0.75))]);
        assert_eq!(lines(1), [("A", Some(0.1)), ("B", None)]);
    }
}
