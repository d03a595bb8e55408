//! What a person sees of a job: bars in a terminal, plain lines elsewhere.

use crate::advice::Phases;
use indicatif::{ProgressBar, ProgressStyle};
use sinternal_proto::{Checkpoint, Event, JobEvent, JobState, StepMetrics};
use std::io::IsTerminal;
use std::time::Duration;

/// Bars or lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Standard error is a terminal.
    Bars,
    /// It is a file or a pipe.
    Lines,
}

impl Style {
    pub(crate) fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Bars } else { Self::Lines }
    }
}

/// What a line has room for of a step's figures.
pub(crate) fn note(metrics: &StepMetrics) -> String {
    let mut note = String::new();
    for (name, label) in [
        ("loss", "loss"),
        ("reward", "reward"),
        ("oracle_attack_success", "attack"),
        ("refused", "refused"),
        ("kl", "kl"),
        ("logprob_mismatch_max", "mismatch"),
    ] {
        if let Some(x) = metrics.values.get(name) {
            let shown = if name == "logprob_mismatch_max" { format!("{x:.0e}") } else { format!("{x:.3}") };
            note.push_str(&format!(" {label} {shown}"));
        }
    }
    note
}

/// Follows one job.
pub(crate) struct Progress {
    style: Style,
    stage: String,
    /// Steps of the stage; 0 where it has none.
    steps: u64,
    bar: Option<ProgressBar>,
    /// Tenths of the stage that were told as lines.
    told: u64,
    /// Of the stage's steps.
    phases: Phases,
}

impl Progress {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, stage: String::new(), steps: 0, bar: None, told: 0, phases: Phases::default() }
    }

    pub(crate) fn show(&mut self, event: &JobEvent) {
        match &event.event {
            Event::State(status) => {
                if !status.stage.is_empty() && status.stage != self.stage {
                    self.begin(&status.stage);
                }
                self.steps = status.steps;
                if matches!(status.state, JobState::Queued | JobState::Preparing) {
                    self.line(&format!("{:?}: {}", status.state, status.reason));
                }
            }
            Event::Progress { stage, done, total } => self.advance(stage, *done, *total, ""),
            Event::Metrics(metrics) => self.step(metrics),
            Event::Log { level, message } => {
                let mark = if level == "info" { "" } else { "warning: " };
                self.line(&format!("{mark}{message}"));
            }
            Event::Checkpoint(Checkpoint { path, .. }) => {
                self.line(&format!("checkpoint {}", path.display()));
            }
            // `sinternal samples` and the page show them.
            Event::Sample(_) => {}
        }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(bound) = std::mem::take(&mut self.phases).bound() {
            eprintln!("{}: {bound}", self.stage);
        }
    }

    fn begin(&mut self, stage: &str) {
        self.finish();
        self.stage = stage.to_owned();
        self.told = 0;
        if self.style == Style::Lines {
            eprintln!("stage: {stage}");
        }
    }

    fn step(&mut self, metrics: &StepMetrics) {
        if metrics.stage != self.stage {
            self.begin(&metrics.stage);
        }
        self.phases.add(&metrics.values);
        let mut note = note(metrics);
        if self.style == Style::Bars {
            if let Some(stale) = metrics.values.get("staleness_max").filter(|&&stale| stale > 0.0) {
                note.push_str(&format!(" staleness {stale}"));
            }
            if let Some(bound) = self.phases.bound() {
                note.push_str(&format!("\n{:>20} {bound}", ""));
            }
        }
        self.advance(&metrics.stage, metrics.step, self.steps, &note);
    }

    /// `done` of `total` of a stage; a new name begins a new stage.
    pub(crate) fn advance(&mut self, stage: &str, done: u64, total: u64, note: &str) {
        if stage != self.stage {
            self.begin(stage);
        }
        match self.style {
            Style::Bars => self.bar(done, total, note),
            Style::Lines => self.tell(done, total, note),
        }
    }

    fn bar(&mut self, done: u64, total: u64, note: &str) {
        let stage = self.stage.clone();
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{prefix:>20} {bar:24} {pos}/{len} {per_sec} left {eta}{msg}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style).with_prefix(stage);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        bar.set_length(total.max(done));
        bar.set_position(done);
        bar.set_message(note.to_owned());
    }

    /// A line for every tenth of a stage, and the last.
    fn tell(&mut self, done: u64, total: u64, note: &str) {
        let tenth = (done * 10).checked_div(total).unwrap_or(done);
        if tenth > self.told {
            self.told = tenth;
            eprintln!("  {}: {done}/{total}{note}", self.stage);
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}
