//! One chart as inline SVG with its legend; colours and dashes come from the style sheet, so that both colour schemes work.

use super::{format, text};
use maud::{Markup, html};
use sinternal_eval::Axis;
use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = HEIGHT - 26.0;
/// Longest lines whose points are marked one by one.
const MOST_MARKED: usize = 60;
/// Longest lines that are drawn point by point; a longer one is drawn as the means of so many equal parts, with a band from
/// the least to the most of each.
const MOST_POINTS: usize = 300;
/// Lines that colours and dashes tell apart.
const STYLES: usize = 6;

/// What a chart shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) form: Form,
    pub(super) lines: Vec<Line>,
}

/// How it shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    /// Areas on top of each other, so that the highest edge is the sum.
    Stack,
}

/// A series with its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// (step, value), ascending.
    pub(super) points: Vec<(f64, f64)>,
}

/// One or more neighbouring points of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    step: f64,
    mean: f64,
    low: f64,
    high: f64,
}

struct Frame {
    x: Axis,
    y: Axis,
}

impl Frame {
    fn of(lines: &[Vec<Part>], form: Form) -> Self {
        let parts = || lines.iter().flatten();
        let y = match form {
            Form::Lines => Axis::of_values(parts().flat_map(|p| [p.low, p.high])),
            Form::Stack => Axis::of_values(parts().map(|p| p.high).chain([0.0])),
        };
        Self { x: Axis::of_steps(parts().map(|p| p.step), 6), y }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + self.x.place(step) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - TOP)
    }
}

/// The chart with its title and a legend that has each line's last value.
pub(super) fn figure(plot: &Plot) -> Markup {
    let drawn: Vec<Vec<Part>> = match plot.form {
        Form::Lines => plot.lines.iter().map(|line| parts(&line.points)).collect(),
        Form::Stack => stacked(&plot.lines),
    };
    let frame = Frame::of(&drawn, plot.form);
    html! {
        figure.chart {
            figcaption {
                h4 { (text::shown(&plot.title)) }
                ul.legend {
                    @for (i, line) in plot.lines.iter().enumerate() {
                        li class=(style(i)) {
                            svg.swatch viewBox="0 0 24 8" aria-hidden="true" {
                                @if plot.form == Form::Stack { path.area d="M0 0H24V8H0Z" {} }
                                @else { path.line d="M0 4H24" {} }
                            }
                            (text::shown(&line.name)) " "
                            b { (line.points.last().map_or_else(|| "–".into(), |p| format::figure(p.1))) }
                        }
                    }
                }
            }
            svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label(plot, &frame)) {
                (grid(&frame))
                @if plot.form == Form::Stack { (areas(&frame, &drawn)) } @else { (lines(&frame, &drawn)) }
                (strips(&frame, plot))
            }
        }
    }
}

fn style(index: usize) -> String {
    format!("s{}", index % STYLES)
}

/// What a screen reader says in place of the picture.
fn label(plot: &Plot, frame: &Frame) -> String {
    let mut label = format!("{}, steps {} to {}", plot.title, frame.x.low, frame.x.high);
    for line in &plot.lines {
        if let (Some(first), Some(last)) = (line.points.first(), line.points.last()) {
            let (first, last) = (format::figure(first.1), format::figure(last.1));
            write!(label, "; {} from {first} to {last}", line.name).expect("strings take all writes");
        }
    }
    label
}

fn grid(frame: &Frame) -> Markup {
    html! {
        g.grid {
            @for tick in frame.y.ticks() {
                @let y = frame.y(tick);
                path class=[(tick == 0.0).then_some("zero")] d=(format!("M{LEFT:.1} {y:.1}H{RIGHT:.1}")) {}
                text x=(format!("{:.1}", LEFT - 6.0)) y=(format!("{:.1}", y + 4.0)) text-anchor="end" {
                    (frame.y.label(tick))
                }
            }
            @for tick in frame.x.ticks() {
                @let x = frame.x(tick);
                path d=(format!("M{x:.1} {BOTTOM:.1}v4")) {}
                text x=(format!("{x:.1}")) y=(format!("{:.1}", BOTTOM + 17.0)) text-anchor="middle" { (tick) }
            }
        }
    }
}

fn lines(frame: &Frame, lines: &[Vec<Part>]) -> Markup {
    html! {
        @for (i, parts) in lines.iter().enumerate().filter(|(_, parts)| !parts.is_empty()) {
            g class=(style(i)) {
                @if parts.iter().any(|p| p.low < p.high) { path.band d=(band(frame, parts)) {} }
                path.line d=(path(frame, parts)) {}
                @for p in parts.iter().filter(|_| parts.len() <= MOST_MARKED) {
                    circle r="2" cx=(format!("{:.1}", frame.x(p.step))) cy=(format!("{:.1}", frame.y(p.mean))) {}
                }
            }
        }
    }
}

/// From the highest area to the lowest, each down to the axis, so that what is seen of one is its own share.
fn areas(frame: &Frame, lines: &[Vec<Part>]) -> Markup {
    html! {
        @for (i, parts) in lines.iter().enumerate().rev() {
            @if let (Some(first), Some(last)) = (parts.first(), parts.last()) {
                @let (left, right) = (frame.x(first.step), frame.x(last.step));
                @let top = path(frame, parts);
                path class={ "area " (style(i)) } d=(format!("{top}L{right:.1} {BOTTOM:.1}L{left:.1} {BOTTOM:.1}Z")) {}
            }
        }
    }
}

/// One strip a step, over the whole height, that tells all values when the pointer rests on it.
fn strips(frame: &Frame, plot: &Plot) -> Markup {
    let longest = plot.lines.iter().max_by_key(|line| line.points.len());
    let steps: Vec<f64> = longest.map_or_else(Vec::new, |line| line.points.iter().map(|p| p.0).collect());
    if steps.len() > MOST_POINTS {
        return html! {};
    }
    let half = (RIGHT - LEFT) / 2.0 / (frame.x.high - frame.x.low);
    html! {
        @for step in steps {
            @let (left, right) = ((frame.x(step) - half).max(LEFT), (frame.x(step) + half).min(RIGHT));
            rect.strip x=(format!("{left:.1}")) y=(TOP) width=(format!("{:.1}", right - left)) height=(BOTTOM - TOP) {
                title { (values_at(plot, step)) }
            }
        }
    }
}

fn values_at(plot: &Plot, step: f64) -> String {
    let mut text = format!("step {step}");
    for line in &plot.lines {
        if let Some((_, value)) = line.points.iter().find(|p| p.0 == step) {
            write!(text, "\n{}: {}", line.name, format::figure(*value)).expect("strings take all writes");
        }
    }
    text
}

fn path(frame: &Frame, parts: &[Part]) -> String {
    let places: Vec<String> =
        parts.iter().map(|p| format!("{:.1} {:.1}", frame.x(p.step), frame.y(p.mean))).collect();
    format!("M{}", places.join("L"))
}

fn band(frame: &Frame, parts: &[Part]) -> String {
    let place = |step, value| format!("{:.1} {:.1}", frame.x(step), frame.y(value));
    let upper = parts.iter().map(|p| place(p.step, p.high));
    let lower = parts.iter().rev().map(|p| place(p.step, p.low));
    format!("M{}Z", upper.chain(lower).collect::<Vec<_>>().join("L"))
}

fn parts(points: &[(f64, f64)]) -> Vec<Part> {
    points.chunks(points.len().div_ceil(MOST_POINTS).max(1)).map(part).collect()
}

fn part(points: &[(f64, f64)]) -> Part {
    let count = points.len() as f64;
    let (step, sum) = points.iter().fold((0.0, 0.0), |(steps, sum), p| (steps + p.0, sum + p.1));
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    Part { step: step / count, mean: sum / count, low, high }
}

/// Each line on top of those before it. A value that a step lacks is 0 in it.
fn stacked(lines: &[Line]) -> Vec<Vec<Part>> {
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    let mut stack = |line: &Line| {
        for (step, value) in &line.points {
            *sums.entry(*step as u64).or_default() += value;
        }
        parts(&sums.iter().map(|(&step, &sum)| (step as f64, sum)).collect::<Vec<_>>())
    };
    lines.iter().map(&mut stack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(form: Form, lines: &[(&str, &[(f64, f64)])]) -> Plot {
        let lines = lines.iter().map(|(name, points)| Line { name: (*name).into(), points: points.to_vec() });
        Plot { title: "a < b".into(), form, lines: lines.collect() }
    }

    #[test]
    fn points_are_where_the_axes_say() {
        // Steps 0–10 over x 54–410 and values 0–1 over y 174–8.
        let html = figure(&plot(Form::Lines, &[("p", &[(0.0, 1.0), (5.0, 0.5), (10.0, 0.0)])])).into_string();
        assert!(html.contains(r#"<path class="line" d="M54.0 8.0L232.0 91.0L410.0 174.0">"#), "{html}");
        assert_eq!(html.matches("<circle").count(), 3);
        assert!(html.contains("a &lt; b, steps 0 to 10; p from 1 to 0"), "{html}");
        assert!(html.contains(">0.2</text>") && html.contains(">1.0</text>") && html.contains(">10</text>"));
        assert!(html.contains("<title>step 5\np: 0.5</title>"), "{html}");
    }

    #[test]
    fn areas_stand_on_each_other() {
        // 1 + 3 = 4 and 2 + 2 = 4 on an axis of 0–4, in one step from 1 to 2.
        let html =
            figure(&plot(Form::Stack, &[("a", &[(1.0, 1.0), (2.0, 2.0)]), ("b", &[(1.0, 3.0), (2.0, 2.0)])]));
        let html = html.into_string();
        assert!(
            html.contains(r#"<path class="area s0" d="M54.0 132.5L410.0 91.0L410.0 174.0L54.0 174.0Z">"#),
            "{html}"
        );
        assert!(
            html.contains(r#"<path class="area s1" d="M54.0 8.0L410.0 8.0L410.0 174.0L54.0 174.0Z">"#),
            "{html}"
        );
    }

    #[test]
    fn long_lines_are_means_with_a_band() {
        let points: Vec<(f64, f64)> = (0..900).map(|i| (f64::from(i), f64::from(i % 3))).collect();
        let line = Line { name: "p".into(), points };
        let thin = parts(&line.points);
        assert_eq!(thin.len(), 300);
        assert_eq!(thin[1], Part { step: 4.0, mean: 1.0, low: 0.0, high: 2.0 });
        let html = figure(&Plot { title: "t".into(), form: Form::Lines, lines: vec![line] }).into_string();
        assert!(
            html.contains(r#"<path class="band" d="M"#)
                && !html.contains("<circle")
                && !html.contains("<rect")
        );
    }

    #[test]
    fn one_point_and_none_are_charts_too() {
        for points in [&[(3.0, 0.5)][..], &[]] {
            let html = figure(&plot(Form::Lines, &[("p", points)])).into_string();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
            assert_eq!(html.matches("<circle").count(), points.len());
        }
    }
}
