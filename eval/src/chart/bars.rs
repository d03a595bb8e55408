//! Rates side by side as horizontal bars with their intervals, in groups of one bar a series.

use super::axis::Axis;
use super::svg::{STYLES, escaped, percent};
use super::{ChartError, png};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const RIGHT: f64 = WIDTH - 64.0;
/// Under the titles and the legend.
const TOP: f64 = 92.0;
/// From one bar to the next.
const BAR: f64 = 18.0;
/// Between groups.
const GAP: f64 = 12.0;

/// A chart of bars. The axis starts at 0 and reads in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Under the title.
    pub note: String,
    /// What the bars of a group are, in the order of their colours; six are told apart.
    pub series: Vec<String>,
    /// From top to bottom.
    pub groups: Vec<BarGroup>,
}

/// Bars that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct BarGroup {
    /// At its left.
    pub name: String,
    /// One for each series; `None` where there is no figure.
    pub bars: Vec<Option<Bar>>,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// 0–1.
    pub value: f64,
    /// Lower end of its interval, 0–1.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl BarChart {
    /// The chart as a stand-alone SVG, 860 wide and as high as its bars need.
    #[must_use]
    pub fn svg(&self) -> String {
        let bars: usize = self.groups.iter().map(|g| g.bars.len()).sum();
        let bottom = TOP + bars as f64 * BAR + self.groups.len() as f64 * GAP;
        let names = self.groups.iter().map(|g| g.name.chars().count()).max().unwrap_or(0);
        let highs = self.groups.iter().flat_map(|g| &g.bars).flatten().map(|b| b.high.max(b.value));
        let frame = Frame {
            left: (28.0 + 6.8 * names as f64).clamp(64.0, WIDTH / 2.0),
            bottom,
            axis: Axis::of_rates(highs.filter(|h| h.is_finite())),
        };
        let mut svg = head(self, bottom + 44.0);
        legend(&mut svg, &self.series);
        grid(&mut svg, &frame);
        let mut y = TOP + GAP / 2.0;
        for group in &self.groups {
            let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.5;
            put(
                &mut svg,
                &format!(
                    r#"<text x="{:.1}" y="{middle:.1}" text-anchor="end">{}</text>"#,
                    frame.left - 10.0,
                    escaped(&group.name)
                ),
            );
            for (index, bar) in group.bars.iter().enumerate() {
                draw(&mut svg, &frame, y, *bar, STYLES[index % STYLES.len()].0);
                y += BAR;
            }
            y += GAP;
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// [`BarChart::svg`] at twice its size, with an embedded font.
    ///
    /// # Errors
    /// See [`ChartError`]; none is expected of finite bars.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::render(&self.svg())
    }
}

/// Maps rates to pixels.
struct Frame {
    left: f64,
    bottom: f64,
    axis: Axis,
}

impl Frame {
    fn x(&self, rate: f64) -> f64 {
        self.left + self.axis.place(rate) * (RIGHT - self.left)
    }
}

fn head(chart: &BarChart, height: f64) -> String {
    let (title, note) = (escaped(&chart.title), escaped(&chart.note));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" font-family="Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif" font-size="13" fill="#333333">
<title>{title}</title>
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="16" y="30" font-size="18" font-weight="600" fill="#111111">{title}</text>
<text x="16" y="53" fill="#555555">{note}</text>
"##
    )
}

/// A swatch and a name for each series, where there are several.
fn legend(svg: &mut String, series: &[String]) {
    let mut x = 16.0;
    for (index, name) in series.iter().enumerate().filter(|_| series.len() > 1) {
        let colour = STYLES[index % STYLES.len()].0;
        put(svg, &format!(r#"<rect x="{x:.1}" y="66" width="12" height="12" fill="{colour}"/>"#));
        put(svg, &format!(r#"<text x="{:.1}" y="77">{}</text>"#, x + 18.0, escaped(name)));
        x += 44.0 + 7.4 * name.chars().count() as f64;
    }
}

fn grid(svg: &mut String, frame: &Frame) {
    for rate in frame.axis.ticks() {
        let (x, bottom) = (frame.x(rate), frame.bottom);
        let colour = if rate == 0.0 { "#8a8a8a" } else { "#e4e4e4" };
        put(svg, &format!(r#"<path d="M{x:.1} {TOP:.1}V{bottom:.1}" stroke="{colour}"/>"#));
        let (y, text) = (bottom + 21.0, percent(rate));
        put(svg, &format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text} %</text>"#));
    }
}

/// The bar, its interval as a line with ends, and its value behind that.
fn draw(svg: &mut String, frame: &Frame, y: f64, bar: Option<Bar>, colour: &str) {
    let Some(bar) = bar.filter(|b| b.value.is_finite() && b.low.is_finite() && b.high.is_finite()) else {
        put(
            svg,
            &format!(r##"<text x="{:.1}" y="{:.1}" fill="#8a8a8a">–</text>"##, frame.left + 6.0, y + 12.5),
        );
        return;
    };
    let (end, low, high) = (frame.x(bar.value), frame.x(bar.low), frame.x(bar.high));
    let (width, middle) = (end - frame.left, y + BAR / 2.0 - 1.5);
    put(
        svg,
        &format!(
            r#"<rect x="{:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/>"#,
            frame.left,
            BAR - 3.0
        ),
    );
    put(
        svg,
        &format!(
            r##"<path d="M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8" stroke="#222222" stroke-width="1.2"/>"##,
            middle - 4.0,
            middle - 4.0
        ),
    );
    let (x, text) = (high.max(end) + 6.0, percent(bar.value));
    put(svg, &format!(r#"<text x="{x:.1}" y="{:.1}" font-size="11">{text} %</text>"#, middle + 4.0));
}

fn put(svg: &mut String, line: &str) {
    writeln!(svg, "{line}").expect("strings take all writes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: &[&str], groups: &[(&str, Vec<Option<Bar>>)]) -> BarChart {
        BarChart {
            title: "a & b".into(),
            note: "n".into(),
            series: series.iter().map(ToString::to_string).collect(),
            groups: groups.iter().map(|g| BarGroup { name: g.0.into(), bars: g.1.clone() }).collect(),
        }
    }

    #[test]
    fn bars_are_where_the_axis_says() {
        // A name of 10 characters leaves 28 + 68 = 96 at the left; the axis runs from there to 796 for 0–100 %.
        let bar = Bar { value: 0.5, low: 0.25, high: 1.0 };
        let svg = chart(&["m"], &[("attack <3>", vec![Some(bar)])]).svg();
        assert!(svg.contains(r#"<rect x="96.0" y="98.0" width="350.0" height="15.0""#), "{svg}");
        assert!(svg.contains(r#"d="M271.0 105.5H796.0M271.0 101.5v8M796.0 101.5v8""#), "{svg}");
        assert!(svg.contains("attack &lt;3&gt;</text>") && svg.contains("<title>a &amp; b</title>"));
        assert!(svg.contains(">50 %</text>") && svg.contains(">100 %</text>"));
        // TOP + one bar + one gap, and 44 for the axis.
        assert!(svg.contains(r#"height="166""#), "{svg}");
        assert!(!svg.contains(r#"y="66""#), "a single series needs no legend");
    }

    #[test]
    fn missing_figures_are_dashes_and_several_series_have_a_legend() {
        let bar = Some(Bar { value: 0.02, low: 0.01, high: 0.04 });
        let not_a_number = Some(Bar { value: f64::NAN, low: 0.0, high: 1.0 });
        let svg = chart(&["base", "tuned"], &[("a", vec![bar, None]), ("b", vec![not_a_number, bar])]).svg();
        assert_eq!((svg.matches(">–</text>").count(), svg.matches(r#"y="66""#).count()), (2, 2));
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(svg.contains(">base</text>") && svg.contains(">tuned</text>"));
    }

    #[test]
    fn the_picture_is_twice_the_size() {
        let png = chart(&["m"], &[("a", vec![None])]).png().unwrap();
        // The header's width and height, big-endian, at bytes 16–23.
        assert_eq!(png[16..24], [0, 0, 6, 184, 0, 0, 1, 76]);
    }
}
