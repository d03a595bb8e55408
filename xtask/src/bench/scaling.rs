//! How the cost of a step grows with the length of sequences, the size of groups and the vocabulary.

use super::measure::{Bench, Step, VOCABULARY, Work};
use anyhow::Context;
use serde::Serialize;
use std::path::Path;

const LENGTHS: [u64; 5] = [256, 512, 1024, 2048, 4096];
const GROUPS: [u64; 4] = [4, 8, 16, 32];
const VOCABULARIES: [u64; 4] = [VOCABULARY, 32_768, 65_536, 151_936];
/// Sequences a prompt at which vocabularies are compared, and how many more for the cross term.
const VOCABULARY_GROUP: u64 = 4;
const MORE_GROUP: u64 = 16;
/// What logits of one token and one entry of the vocabulary would take in float32.
const LOGIT_BYTES: f64 = 4.0;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    /// Tokens of a sequence, sequences of a group, or entries of the vocabulary.
    value: f64,
    tokens: f64,
    step_s: f64,
    peak_mib: f64,
}

impl Point {
    fn new(value: f64, step: &Step) -> Self {
        let tokens = step.sequences as f64 * (step.prompt_tokens + step.new_tokens as f64);
        Self { value, tokens, step_s: step.step_s, peak_mib: step.peak_rss_mib }
    }
}

/// Cost along one axis.
#[derive(Debug, Serialize)]
pub(super) struct Axis {
    what: &'static str,
    points: Vec<Point>,
}

/// Memory at both ends of the vocabulary, with few and with many tokens.
#[derive(Debug, Serialize)]
pub(super) struct CrossTerm {
    /// `[vocabulary][tokens]`.
    corners: [[Point; 2]; 2],
    /// What more tokens cost at the large vocabulary beyond what they cost at the small one.
    grown_mib: f64,
    /// The same if the logits of all tokens existed.
    with_all_logits_mib: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Growth {
    axes: Vec<Axis>,
    vocabulary_times_tokens: CrossTerm,
}

/// Runs everything. `compared` tells how many tokens a prompt has.
pub(super) fn run(bench: &Bench, model: &Path, compared: &Step) -> anyhow::Result<Growth> {
    // One timed step is enough where the answer is a factor of 16.
    let work = |prompts, group, new_tokens| Work {
        prompts,
        group,
        new_tokens,
        steps: 1,
        ..Work::of_the_table("bfloat16")
    };
    let mut lengths = Vec::new();
    for length in LENGTHS {
        let new_tokens = length - compared.prompt_tokens.ceil() as u64;
        let step = bench.ours(model, &work(1, 4, new_tokens))?;
        lengths.push(Point::new(step.prompt_tokens + step.new_tokens as f64, &step));
    }
    let mut groups = Vec::new();
    for group in GROUPS {
        groups.push(Point::new(group as f64, &bench.ours(model, &work(2, group, 128))?));
    }
    let (mut vocabularies, mut corners) = (Vec::new(), Vec::new());
    for vocabulary in VOCABULARIES {
        let model = bench.model(vocabulary)?;
        let few = Point::new(vocabulary as f64, &bench.ours(&model, &work(2, VOCABULARY_GROUP, 128))?);
        vocabularies.push(few.clone());
        if [VOCABULARIES.first(), VOCABULARIES.last()].contains(&Some(&vocabulary)) {
            let many = bench.ours(&model, &work(2, MORE_GROUP, 128))?;
            corners.push([few, Point::new(vocabulary as f64, &many)]);
        }
    }
    let corners = corners.try_into().ok().context("two vocabularies make the corners")?;
    Ok(Growth {
        axes: vec![
            Axis { what: "tokens a sequence", points: lengths },
            Axis { what: "sequences a group", points: groups },
            Axis { what: "vocabulary", points: vocabularies },
        ],
        vocabulary_times_tokens: cross_term(corners),
    })
}

fn cross_term(corners: [[Point; 2]; 2]) -> CrossTerm {
    let [[small_few, small_many], [large_few, large_many]] = &corners;
    let grown_mib = (large_many.peak_mib - large_few.peak_mib) - (small_many.peak_mib - small_few.peak_mib);
    let logits = (large_few.value - small_few.value) * (small_many.tokens - small_few.tokens);
    let with_all_logits_mib = logits * LOGIT_BYTES / f64::from(1 << 20);
    CrossTerm { grown_mib, with_all_logits_mib, corners }
}

/// As Markdown. "Of linear" is growth since the first point over that of the axis: 1 is linear, less is better.
pub(super) fn table(growth: &Growth) -> String {
    let mut text = String::new();
    for axis in &growth.axes {
        text += &format!(
            "| {} | step | of linear | peak memory | of linear |\n|--:|--:|--:|--:|--:|\n",
            axis.what
        );
        for point in &axis.points {
            let of_linear = |cost: fn(&Point) -> f64| of_linear(&axis.points[0], point, cost);
            text += &format!(
                "| {:.0} | {:.2} s | {:.2} | {:.0} MiB | {:.2} |\n",
                point.value,
                point.step_s,
                of_linear(|p| p.step_s),
                point.peak_mib,
                of_linear(|p| p.peak_mib)
            );
        }
        text.push('\n');
    }
    let cross = &growth.vocabulary_times_tokens;
    let [_, [few, many]] = &cross.corners;
    text + &format!(
        "Memory of vocabulary × tokens: {:.0} MiB more than at the small vocabulary for going from {:.0} to {:.0} \
         tokens; {:.0} MiB if all logits existed.\n",
        cross.grown_mib, few.tokens, many.tokens, cross.with_all_logits_mib
    )
}

fn of_linear(first: &Point, point: &Point, cost: impl Fn(&Point) -> f64) -> f64 {
    (cost(point) / cost(first)) / (point.value / first.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: f64, tokens: f64, step_s: f64, peak_mib: f64) -> Point {
        Point { value, tokens, step_s, peak_mib }
    }

    #[test]
    fn growth_is_held_against_a_straight_line() {
        let first = point(4.0, 1.0, 2.0, 100.0);
        let linear = point(32.0, 1.0, 16.0, 200.0);
        assert_eq!(of_linear(&first, &linear, |p| p.step_s), 1.0);
        assert_eq!(of_linear(&first, &linear, |p| p.peak_mib), 0.25);
        let quadratic = point(8.0, 1.0, 8.0, 100.0);
        assert_eq!(of_linear(&first, &quadratic, |p| p.step_s), 2.0);
    }

    #[test]
    fn the_cross_term_leaves_weights_and_tokens_out() {
        // 1,000 MiB of weights more at the large vocabulary, 50 more for the tokens at both, 6 that are neither.
        let corners = [
            [point(8192.0, 1024.0, 1.0, 300.0), point(8192.0, 5120.0, 1.0, 350.0)],
            [point(139_264.0, 1024.0, 1.0, 1300.0), point(139_264.0, 5120.0, 1.0, 1356.0)],
        ];
        let cross = cross_term(corners);
        // 131,072 × 4,096 × 4 bytes are 2,048 MiB.
        assert_eq!((cross.grown_mib, cross.with_all_logits_mib), (6.0, 2048.0));
        let axis =
            Axis { what: "vocabulary", points: vec![point(2.0, 1.0, 3.0, 10.0), point(4.0, 1.0, 6.0, 10.0)] };
        let text = table(&Growth { axes: vec![axis], vocabulary_times_tokens: cross });
        let expected = "\
| vocabulary | step | of linear | peak memory | of linear |
|--:|--:|--:|--:|--:|
| 2 | 3.00 s | 1.00 | 10 MiB | 1.00 |
| 4 | 6.00 s | 1.00 | 10 MiB | 0.50 |

Memory of vocabulary × tokens: 6 MiB more than at the small vocabulary for going from 1024 to 5120 tokens; 2048 MiB if all logits existed.
";
        assert_eq!(text, expected);
    }
}
