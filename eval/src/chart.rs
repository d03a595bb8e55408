//! Rates over steps as a line chart, and rates side by side as bars.

mod axis;
mod bars;
mod png;
mod svg;

pub use axis::Axis;
pub use bars::{Bar, BarChart, BarGroup};

/// A line chart of rates over steps. The vertical axis starts at 0 and reads in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// What the steps are.
    pub x_label: String,
    /// What the rates are.
    pub y_label: String,
    /// One line each, in the order of their colours: six are told apart by colour and dashes, then they repeat.
    pub series: Vec<Series>,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Written at the line's end.
    pub name: String,
    /// (step, rate in 0–1) by ascending step; a rate that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Why a chart has no PNG.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The SVG is beyond the renderer.
    #[error("failed to read the chart's SVG: {0}")]
    Svg(#[from] resvg::usvg::Error),
    /// No memory for the pixels.
    #[error("failed to allocate {0} × {1} pixels for the chart")]
    Size(u32, u32),
    /// The encoder failed.
    #[error("failed to encode the chart: {0}")]
    Encode(String),
}

impl Chart {
    /// The chart as a stand-alone SVG, 860 × 420.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::write(self)
    }

    /// [`Chart::svg`] at twice its size, with an embedded font.
    ///
    /// # Errors
    /// See [`ChartError`]; none is expected of finite points.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::render(&self.svg())
    }
}
