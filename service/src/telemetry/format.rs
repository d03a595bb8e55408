//! How a log line looks: both forms carry role, run id and the fields of the spans around the event.

use super::{Role, RunId};
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Now, as log lines write it: `2026-01-31T12:00:00.000000Z`.
#[must_use]
pub fn utc_now() -> String {
    let mut text = String::new();
    // A `String` takes whatever is written to it.
    let _: std::fmt::Result = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Who speaks.
pub(super) struct Identity {
    pub(super) role: Role,
    pub(super) run_id: RunId,
}

/// `2026-01-31T12:00:00.000000Z  INFO trainer 019… sinternal_trainer::learner: stepped step=3 in grpo{job=…}`
pub(super) struct TextLines(pub(super) Identity);

/// One JSON object a line.
pub(super) struct JsonLines(pub(super) Identity);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        SystemTime.format_time(&mut out)?;
        write!(out, " {:>5} {} {} {}: ", meta.level(), self.0.role.as_str(), self.0.run_id, meta.target())?;
        ctx.format_fields(out.by_ref(), event)?;
        for (place, span) in spans(ctx).enumerate() {
            write!(out, "{}{span}", if place == 0 { " in " } else { " < " })?;
        }
        writeln!(out)
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("time".into(), time.into());
        line.insert("level".into(), meta.level().as_str().into());
        line.insert("role".into(), self.0.role.as_str().into());
        line.insert("run_id".into(), self.0.run_id.as_str().into());
        line.insert("target".into(), meta.target().into());
        line.insert("message".into(), fields.0.remove("message").unwrap_or_else(|| "".into()));
        line.insert("fields".into(), Value::Object(fields.0));
        line.insert("spans".into(), spans(ctx).map(Value::from).collect());
        writeln!(out, "{}", Value::Object(line))
    }
}

/// The spans around an event with their fields, innermost first.
fn spans<S, N>(ctx: &FmtContext<'_, S, N>) -> impl Iterator<Item = String>
where
    S: Subscriber + for<'b> LookupSpan<'b>,
    N: for<'b> FormatFields<'b> + 'static,
{
    ctx.event_scope().into_iter().flatten().map(|span| {
        let mut text = span.name().to_owned();
        if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
            text = format!("{text}{{{fields}}}");
        }
        text
    })
}

/// An event's fields as JSON values.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}
