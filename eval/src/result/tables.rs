//! Evaluations as people read them: one line for each measure of a suite, one column a model.

use super::Evaluation;
use crate::chart::{Bar, BarChart, BarGroup};
use crate::measure::{IntervalMethod, Measure, MeasureKind};
use crate::suite::Suite;
use crate::table::{aligned, put, table_lines};

/// One measure of one suite: for each model its figure, where it was evaluated.
struct Line<'a> {
    suite: Suite,
    measure: MeasureKind,
    figures: Vec<Option<&'a Measure>>,
}

/// The models in the order in which they first appear.
fn models(evaluations: &[Evaluation]) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for evaluation in evaluations {
        let name = evaluation.about.model.name.as_str();
        if !models.contains(&name) {
            models.push(name);
        }
    }
    models
}

/// By suite, then by measure, each in the order of [`Suite::ALL`] and of the results.
fn lines(evaluations: &[Evaluation]) -> Vec<Line<'_>> {
    let models = models(evaluations);
    let mut lines: Vec<Line> = Vec::new();
    for suite in Suite::ALL {
        for evaluation in evaluations.iter().filter(|e| e.about.suite == suite) {
            let column = models.iter().position(|m| *m == evaluation.about.model.name);
            for measure in &evaluation.measures {
                let place = lines.iter().position(|l| (l.suite, l.measure) == (suite, measure.measure));
                let place = place.unwrap_or_else(|| {
                    let figures = vec![None; models.len()];
                    lines.push(Line { suite, measure: measure.measure, figures });
                    lines.len() - 1
                });
                if let Some(column) = column {
                    lines[place].figures[column] = Some(measure);
                }
            }
        }
    }
    lines
}

/// One number, or the range over the models.
fn range(figures: &[Option<&Measure>], count: fn(&Measure) -> u64) -> String {
    let counts = || figures.iter().flatten().map(|m| count(m));
    match (counts().min(), counts().max()) {
        (Some(low), Some(high)) if low < high => format!("{low}–{high}"),
        (Some(n), _) => n.to_string(),
        (None, _) => String::new(),
    }
}

/// A header, then a line a measure.
fn cells(evaluations: &[Evaluation]) -> Vec<Vec<String>> {
    let header = ["", "n", "unparsed"].into_iter().chain(models(evaluations)).map(str::to_owned).collect();
    let body = lines(evaluations).into_iter().map(|line| {
        let figures = line.figures.iter().map(|f| f.map_or("–".to_owned(), ToString::to_string));
        let label = format!("{} · {}", line.suite, line.measure.label());
        let counts = [range(&line.figures, |m| m.n), range(&line.figures, |m| m.unparsed)];
        [label].into_iter().chain(counts).chain(figures).collect()
    });
    [header].into_iter().chain(body).collect()
}

/// The table for a terminal, without colours.
#[must_use]
pub fn terminal(evaluations: &[Evaluation]) -> String {
    let mut text = aligned(&cells(evaluations), 1..3);
    text.push_str("\n[ ] 95 % intervals: ");
    text.push_str(methods(evaluations));
    text.push('\n');
    text
}

/// The contents of `report.md`; `chart` is the path of the picture, relative to it.
#[must_use]
pub fn markdown(title: &str, evaluations: &[Evaluation], chart: &str) -> String {
    let mut text = format!("# {title}\n\n");
    table_lines(&mut text, &cells(evaluations), 1..3);
    put(
        &mut text,
        &format!(
            "\nn is the number of items with a judged answer; 95 % intervals: {}.",
            methods(evaluations)
        ),
    );
    put(&mut text, &format!("\n![measures with intervals]({chart})\n\n## How"));
    for Evaluation { about, items, .. } in evaluations {
        let decoding = &about.decoding;
        put(&mut text, &format!("\n### {} by {}\n", about.suite, about.model.name));
        put(&mut text, &format!("- sinternal {}", about.version));
        put(&mut text, &format!("- model: {}", hash(about.model.sha256.as_deref())));
        put(
            &mut text,
            &format!(
                "- data: `{}`, {}, {} items",
                about.data.path,
                hash(Some(&about.data.sha256)),
                items.len()
            ),
        );
        for judge in &about.judges {
            let model = judge.model.as_ref();
            let by = model.map_or(String::new(), |m| format!(", {} ({})", m.name, hash(m.sha256.as_deref())));
            put(&mut text, &format!("- {}: {}{by}", judge.verdict.replace('_', " "), judge.backend));
        }
        let top_k = decoding.top_k.map_or(String::new(), |k| format!(", top-k {k}"));
        let min_p = if decoding.min_p > 0.0 { format!(", min-p {}", decoding.min_p) } else { String::new() };
        put(
            &mut text,
            &format!(
                "- {} samples an item, temperature {}, top-p {}{top_k}{min_p}, at most {} tokens, seed {}; bootstrap seed {}",
                decoding.samples,
                decoding.temperature,
                decoding.top_p,
                decoding.max_new_tokens,
                decoding.seed,
                about.resampling.seed
            ),
        );
    }
    text
}

fn hash(sha256: Option<&str>) -> String {
    sha256.map_or("no hash".to_owned(), |hash| format!("SHA-256 `{hash}`"))
}

/// Which kinds of intervals there are, in words.
fn methods(evaluations: &[Evaluation]) -> &'static str {
    let any = |method| {
        let intervals = evaluations.iter().flat_map(|e| &e.measures).filter_map(|m| m.interval);
        intervals.into_iter().any(|i| i.method == method)
    };
    match (any(IntervalMethod::Wilson), any(IntervalMethod::Bootstrap)) {
        (true, true) => "Wilson's of shares, bootstrap over items of means",
        (_, false) => "Wilson's",
        (false, true) => "bootstrap over items",
    }
}

/// A bar with its interval for each measure and model, cut-off answers left out.
#[must_use]
pub fn bar_chart(title: &str, evaluations: &[Evaluation]) -> BarChart {
    let bar = |figure: &Option<&Measure>| {
        let measure = figure.as_ref()?;
        let (value, interval) = (measure.value?, measure.interval?);
        Some(Bar { value, low: interval.low, high: interval.high })
    };
    let groups = lines(evaluations).into_iter().filter(|l| l.measure != MeasureKind::Truncated).map(|line| {
        let name = format!("{} · {}", line.suite, line.measure.label());
        BarGroup { name, bars: line.figures.iter().map(bar).collect() }
    });
    BarChart {
        title: title.to_owned(),
        note: "with 95 % intervals".to_owned(),
        series: models(evaluations).into_iter().map(str::to_owned).collect(),
        groups: groups.collect(),
    }
}
