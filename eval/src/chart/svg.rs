//! Writes a chart as SVG: light grid, one line a series, each named at its end so that no legend covers the data.

use super::axis::Axis;
use super::{Chart, Series};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = HEIGHT - 58.0;
/// Least distance of two lines' names.
const NAME_GAP: f64 = 19.0;
/// Longest runs whose points are marked one by one.
const MOST_MARKED: usize = 60;

/// Colours of M. Okabe and K. Ito's palette, which colour-blind people tell apart, each with its own dashes.
pub(super) const STYLES: [(&str, &str); 6] = [
    ("#0072b2", ""),
    ("#d55e00", "8 4"),
    ("#009e73", "2 3"),
    ("#cc79a7", "10 3 2 3"),
    ("#e69f00", "5 2"),
    ("#56b4e9", "1 4"),
];

/// Maps data to pixels.
struct Frame {
    x: Axis,
    y: Axis,
    right: f64,
}

impl Frame {
    fn of(chart: &Chart) -> Self {
        let points = || chart.series.iter().flat_map(|s| &s.points).filter(|p| p.1.is_finite());
        let longest = chart.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
        let names = (48.0 + 7.4 * longest as f64).clamp(24.0, WIDTH / 2.0);
        Self {
            x: Axis::of_steps(points().map(|p| p.0), 10),
            y: Axis::of_rates(points().map(|p| p.1)),
            right: WIDTH - names,
        }
    }

    fn at(&self, (step, rate): (f64, f64)) -> (f64, f64) {
        (LEFT + self.x.place(step) * (self.right - LEFT), BOTTOM - self.y.place(rate) * (BOTTOM - TOP))
    }
}

pub(super) fn write(chart: &Chart) -> String {
    let frame = Frame::of(chart);
    let mut svg = String::new();
    head(&mut svg, chart);
    grid(&mut svg, &frame);
    titles(&mut svg, chart, &frame);
    let ends = name_places(&chart.series, &frame);
    for ((index, series), end) in chart.series.iter().enumerate().zip(ends) {
        line(&mut svg, &frame, series, STYLES[index % STYLES.len()]);
        if let Some(end) = end {
            name(&mut svg, &frame, series, STYLES[index % STYLES.len()], end);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Appends a formatted line.
macro_rules! put {
    ($svg:expr, $($part:tt)*) => { writeln!($svg, $($part)*).expect("strings take all writes") };
}

fn head(svg: &mut String, chart: &Chart) {
    put!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif" font-size="13" fill="#333333">
<title>{}</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##,
        escaped(&chart.title)
    );
}

fn grid(svg: &mut String, frame: &Frame) {
    for rate in frame.y.ticks() {
        let (_, y) = frame.at((frame.x.low, rate));
        let colour = if rate == 0.0 { "#8a8a8a" } else { "#e4e4e4" };
        put!(svg, r#"<path d="M{LEFT} {y:.1}H{:.1}" stroke="{colour}"/>"#, frame.right);
        let (x, y) = (LEFT - 10.0, y + 4.5);
        put!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end">{} %</text>"#, percent(rate));
    }
    for step in frame.x.ticks() {
        let (x, _) = frame.at((step, 0.0));
        put!(svg, r##"<path d="M{x:.1} {BOTTOM}v5" stroke="#8a8a8a"/>"##);
        put!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{step}</text>"#, BOTTOM + 21.0);
    }
}

fn titles(svg: &mut String, chart: &Chart, frame: &Frame) {
    let (title, x_label, y_label) = (escaped(&chart.title), escaped(&chart.x_label), escaped(&chart.y_label));
    put!(svg, r##"<text x="16" y="30" font-size="18" font-weight="600" fill="#111111">{title}</text>"##);
    put!(svg, r##"<text x="16" y="53" fill="#555555">{y_label}</text>"##);
    let (x, y) = (f64::midpoint(LEFT, frame.right), HEIGHT - 15.0);
    put!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" fill="#555555">{x_label}</text>"##);
}

fn line(svg: &mut String, frame: &Frame, series: &Series, (colour, dashes): (&str, &str)) {
    for run in series.points.split(|p| !p.1.is_finite()).filter(|run| !run.is_empty()) {
        let places: Vec<(f64, f64)> = run.iter().map(|&p| frame.at(p)).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        put!(
            svg,
            r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round" stroke-dasharray="{}"/>"#,
            path.join("L"),
            if dashes.is_empty() { "none" } else { dashes }
        );
        let marked = series.points.len() <= MOST_MARKED || run.len() == 1;
        for (x, y) in places.iter().filter(|_| marked) {
            put!(svg, r##"<circle cx="{x:.1}" cy="{y:.1}" r="2.6" fill="{colour}" stroke="#ffffff"/>"##);
        }
    }
}

fn name(svg: &mut String, frame: &Frame, series: &Series, (colour, dashes): (&str, &str), end: End) {
    let (x, dashes) = (frame.right, if dashes.is_empty() { "none" } else { dashes });
    // A thin leader from the last point to where the name found room.
    put!(
        svg,
        r#"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="{colour}" stroke-width="0.8"/>"#,
        end.x + 4.0,
        end.y,
        x + 12.0,
        end.name_y
    );
    put!(
        svg,
        r#"<path d="M{:.1} {:.1}h22" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dashes}"/>"#,
        x + 12.0,
        end.name_y
    );
    put!(svg, r#"<text x="{:.1}" y="{:.1}">{}</text>"#, x + 39.0, end.name_y + 4.5, escaped(&series.name));
}

/// Where a line ends and where its name stands.
#[derive(Clone, Copy)]
struct End {
    x: f64,
    y: f64,
    name_y: f64,
}

/// Names stand at their lines' ends, pushed apart where they would overlap; `None` for a line without points.
fn name_places(series: &[Series], frame: &Frame) -> Vec<Option<End>> {
    let last = |s: &Series| s.points.iter().rev().find(|p| p.1.is_finite()).map(|&p| frame.at(p));
    let mut ends: Vec<Option<End>> =
        series.iter().map(|s| last(s).map(|(x, y)| End { x, y, name_y: y })).collect();
    let mut order: Vec<&mut End> = ends.iter_mut().flatten().collect();
    order.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut least = TOP;
    for end in &mut order {
        end.name_y = end.y.max(least);
        least = end.name_y + NAME_GAP;
    }
    let mut most = BOTTOM;
    for end in order.iter_mut().rev() {
        end.name_y = end.name_y.min(most);
        most = end.name_y - NAME_GAP;
    }
    ends
}

/// A rate in percent, without needless decimals.
pub(super) fn percent(rate: f64) -> String {
    let text = format!("{:.1}", 100.0 * rate);
    text.strip_suffix(".0").map_or(text.clone(), Into::into)
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart { title: "a < b & c".into(), x_label: "step".into(), y_label: "share".into(), series }
    }

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec() }
    }

    #[test]
    fn points_are_where_the_axes_say() {
        // One name of 10 characters takes 48 + 74: the frame spans x 64–738 and y 76–362, rates 0–100 %.
        let svg = write(&chart(vec![series("attack <3>", &[(0.0, 1.0), (5.0, 0.5), (10.0, 0.0)])]));
        assert!(svg.contains(r#"d="M64.0 76.0L401.0 219.0L738.0 362.0""#), "{svg}");
        assert!(svg.contains("<title>a &lt; b &amp; c</title>") && svg.contains(">attack &lt;3&gt;</text>"));
        assert!(svg.contains(">100 %</text>") && svg.contains(">10</text>"));
    }

    #[test]
    fn undefined_rates_leave_a_gap() {
        let svg = write(&chart(vec![series("a", &[(0.0, 0.5), (1.0, f64::NAN), (2.0, 0.5), (3.0, 0.5)])]));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches(r#"fill="none""#).count(), 2);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn names_never_overlap_nor_leave_the_frame() {
        let all: Vec<Series> = [1.0, 0.99, 0.98, 0.02, 0.01, 0.0]
            .iter()
            .map(|&rate| series("n", &[(0.0, 1.0), (9.0, rate)]))
            .collect();
        let frame = Frame::of(&chart(all.clone()));
        let mut places: Vec<f64> = name_places(&all, &frame).iter().map(|e| e.unwrap().name_y).collect();
        assert_eq!((places[0], places[5]), (TOP, BOTTOM));
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|w| w[1] - w[0] >= NAME_GAP - 1e-9), "{places:?}");
    }

    #[test]
    fn a_chart_without_points_still_has_its_axes() {
        let svg = write(&chart(vec![series("a", &[])]));
        assert!(svg.contains(">100 %</text>") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
