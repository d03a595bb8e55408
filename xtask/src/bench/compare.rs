//! The comparison with TRL: ratios, the least they must be, and what they aim at.

use super::measure::Step;
use anyhow::{Context, ensure};
use serde::Serialize;

/// Prompts are drawn from different words on the two sides; their lengths may differ by this fraction.
const PROMPT_TOLERANCE: f64 = 0.15;

/// Runs of the same work.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) ours: Vec<Step>,
    pub(super) peer: Vec<Step>,
}

impl Compared {
    /// A ratio says nothing where one side did less.
    pub(super) fn check_same_work(&self) -> anyhow::Result<()> {
        let (ours, peer) =
            (self.ours.first().context("no run of ours")?, self.peer.first().context("no peer")?);
        let work = |step: &Step| (step.sequences, step.new_tokens, step.dtype.clone());
        ensure!(
            work(ours) == work(peer),
            "the two did different work: {:?} and {:?}",
            work(ours),
            work(peer)
        );
        let apart = (ours.prompt_tokens / peer.prompt_tokens - 1.0).abs();
        ensure!(
            apart <= PROMPT_TOLERANCE,
            "prompts differ in length: {:.1} tokens and {:.1} for TRL",
            ours.prompt_tokens,
            peer.prompt_tokens
        );
        Ok(())
    }
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    what: &'static str,
    ours: f64,
    /// None: the row is not a comparison, and `measured` is ours.
    trl: Option<f64>,
    unit: &'static str,
    measured: f64,
    at_least: f64,
    aim: f64,
}

impl Row {
    pub(super) fn missed(&self) -> bool {
        self.measured.is_nan() || self.measured < self.at_least
    }

    fn verdict(&self) -> &'static str {
        if self.missed() {
            "**missed**"
        } else if self.measured >= self.aim {
            "yes, and the aim"
        } else {
            "yes"
        }
    }
}

/// The rows of the table. Ours is the median of its runs, but the largest for memory.
pub(super) fn rows(bfloat16: &Compared, float32: &Compared) -> anyhow::Result<Vec<Row>> {
    let seconds = |step: &Step| step.step_s;
    let speed = |step: &Step| step.generated_tokens_per_s;
    let memory = |step: &Step| step.peak_rss_mib;
    let fractions: Vec<f64> = bfloat16
        .ours
        .iter()
        .map(|step| step.gemm_fraction.context("a run of ours has no gemm_fraction"))
        .collect::<anyhow::Result<_>>()?;
    let less = |what, unit, ours: f64, trl: f64, at_least, aim| Row {
        what,
        ours,
        trl: Some(trl),
        unit,
        measured: trl / ours,
        at_least,
        aim,
    };
    let (ours, trl) = (median(&bfloat16.ours, speed), median(&bfloat16.peer, speed));
    let generation = Row {
        what: "generation, bfloat16",
        ours,
        trl: Some(trl),
        unit: "tokens/s",
        measured: ours / trl,
        at_least: 2.5,
        aim: 4.0,
    };
    let fraction = middle(fractions);
    let gemm = Row {
        what: "matrix products' share of the step (`gemm_fraction`), bfloat16",
        ours: fraction,
        trl: None,
        unit: "",
        measured: fraction,
        at_least: 0.45,
        aim: 0.7,
    };
    let step = |what, pair: &Compared, at_least, aim| {
        less(what, "s", median(&pair.ours, seconds), median(&pair.peer, seconds), at_least, aim)
    };
    let peak = less(
        "peak memory, bfloat16",
        "MiB",
        largest(&bfloat16.ours, memory),
        largest(&bfloat16.peer, memory),
        2.5,
        4.0,
    );
    Ok(vec![
        step("whole GRPO step, bfloat16", bfloat16, 2.0, 3.5),
        generation,
        peak,
        gemm,
        step("whole GRPO step, float32", float32, 1.7, 2.5),
    ])
}

fn median(steps: &[Step], value: impl Fn(&Step) -> f64) -> f64 {
    middle(steps.iter().map(value).collect())
}

fn largest(steps: &[Step], value: impl Fn(&Step) -> f64) -> f64 {
    steps.iter().map(value).fold(f64::NAN, f64::max)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// As Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let head = "| | ours | TRL | ratio | at least | aim | met |\n|---|--:|--:|--:|--:|--:|---|\n";
    let line = |row: &Row| {
        let times = if row.trl.is_some() { "×" } else { "" };
        let trl = row.trl.map_or_else(String::new, |trl| figure(trl, row.unit));
        format!(
            "| {} | {} | {trl} | {:.2}{times} | {}{times} | {}{times} | {} |\n",
            row.what,
            figure(row.ours, row.unit),
            row.measured,
            row.at_least,
            row.aim,
            row.verdict()
        )
    };
    head.to_owned() + &rows.iter().map(line).collect::<String>()
}

/// Two decimals where they say something.
fn figure(value: f64, unit: &str) -> String {
    let decimals = if value < 100.0 { 2 } else { 0 };
    format!("{value:.decimals$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::step;
    use super::*;

    fn ours(step_s: f64, tokens_per_s: f64, memory: f64, gemm: f64) -> Step {
        Step { gemm_fraction: Some(gemm), ..step("sinternal", step_s, tokens_per_s, memory) }
    }

    fn pair(ours: Vec<Step>) -> Compared {
        Compared { ours, peer: vec![step("trl", 24.0, 1000.0, 4000.0)] }
    }

    #[test]
    fn ratios_are_of_medians_and_of_the_largest_memory() {
        let bfloat16 = pair(vec![ours(5.0, 4000.0, 900.0, 0.5), ours(7.0, 5000.0, 1000.0, 0.75)]);
        let float32 = pair(vec![ours(15.0, 1.0, 1.0, 0.1)]);
        let rows = rows(&bfloat16, &float32).expect("complete");
        let measured: Vec<f64> = rows.iter().map(|row| row.measured).collect();
        assert_eq!(measured, [4.0, 4.5, 4.0, 0.625, 1.6]);
        assert_eq!(rows.iter().map(Row::missed).collect::<Vec<_>>(), [false, false, false, false, true]);
        let expected = "\
| | ours | TRL | ratio | at least | aim | met |
|---|--:|--:|--:|--:|--:|---|
| whole GRPO step, bfloat16 | 6.00 s | 24.00 s | 4.00× | 2× | 3.5× | yes, and the aim |
| generation, bfloat16 | 4500 tokens/s | 1000 tokens/s | 4.50× | 2.5× | 4× | yes, and the aim |
| peak memory, bfloat16 | 1000 MiB | 4000 MiB | 4.00× | 2.5× | 4× | yes, and the aim |
| matrix products' share of the step (`gemm_fraction`), bfloat16 | 0.62 |  | 0.62 | 0.45 | 0.7 | yes |
| whole GRPO step, float32 | 15.00 s | 24.00 s | 1.60× | 1.7× | 2.5× | **missed** |
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let missing = pair(vec![step("sinternal", 1.0, 1.0, 1.0)]);
        let error = rows(&missing, &missing).expect_err("no fraction").to_string();
        assert_eq!(error, "a run of ours has no gemm_fraction");
        let nothing =
            Row { what: "", ours: 1.0, trl: None, unit: "", measured: f64::NAN, at_least: 0.0, aim: 0.0 };
        assert!(nothing.missed());
    }

    #[test]
    fn different_work_is_not_compared() {
        let same = pair(vec![Step { prompt_tokens: 57.0, ..ours(1.0, 1.0, 1.0, 1.0) }]);
        same.check_same_work().expect("14 % longer prompts");
        let fewer = pair(vec![Step { new_tokens: 64, ..ours(1.0, 1.0, 1.0, 1.0) }]);
        let error = fewer.check_same_work().expect_err("half the tokens").to_string();
        assert_eq!(error, "the two did different work: (64, 64, \"bfloat16\") and (64, 128, \"bfloat16\")");
        let longer = pair(vec![Step { prompt_tokens: 58.0, ..ours(1.0, 1.0, 1.0, 1.0) }]);
        let error = longer.check_same_work().expect_err("16 % longer prompts").to_string();
        assert_eq!(error, "prompts differ in length: 58.0 tokens and 50.0 for TRL");
    }
}
