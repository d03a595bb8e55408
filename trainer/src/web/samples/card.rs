//! A group as it is shown: the prompt, then each sample with its answer, its critique, its verdict and what it was worth.

use super::filter::Filter;
use super::index::Judged;
use super::record::Record;
use super::search::Samples;
use crate::web::text::{shown, shown_bounded};
use crate::web::{format, layout};
use maud::{Markup, html};
use serde_json::Value;
use sinternal_model::think::split_reasoning;
use sinternal_proto::FinishReason;

/// The whole card.
pub(super) fn group(samples: &Samples, filter: &Filter) -> Markup {
    let Some((first, _)) = samples.records.first() else { return html! {} };
    let matching = samples.records.iter().filter(|(_, taken)| *taken).count();
    html! {
        article.group {
            (prompt(first))
            (summary(samples))
            @if filter.is_set() {
                p.small {
                    (matching) " of " (samples.records.len()) " samples match"
                    @if matching < samples.records.len() { "; the others are folded" }
                }
            }
            @for (record, taken) in &samples.records { (sample(record, *taken)) }
            @if samples.left_out > 0 {
                (layout::note(&format!("{} more samples of this group are too much for a page.", samples.left_out)))
            }
        }
    }
}

fn prompt(record: &Record) -> Markup {
    html! {
        header.prompt {
            p.tags {
                span class={ "kind " (kind_class(&record.kind)) } { (shown(&record.kind)) }
                @if !record.family.is_empty() { span.tag { (shown(&record.family)) } }
                span.tag { (shown(&record.stage)) " step " (record.step) }
                span.tag title="The group's number in its job" { "task " (record.task) }
            }
            @if !record.spec.is_empty() {
                h3 { "Specification" }
                div.said { (shown_bounded(&record.spec)) }
            }
            h3 { "Request" }
            div.said { (shown_bounded(&record.request)) }
            @if let Some(gold) = &record.gold { h3 { "Right answer" } div.said { (shown_bounded(gold)) } }
        }
    }
}

/// Only known words become class names.
fn kind_class(kind: &str) -> &'static str {
    match kind {
        "harmful" => "harmful",
        "benign" => "benign",
        "math" => "math",
        _ => "",
    }
}

fn summary(samples: &Samples) -> Markup {
    let rewards: Vec<f32> = samples.records.iter().filter_map(|(r, _)| r.score.reward).collect();
    let mean = rewards.iter().map(|&r| f64::from(r)).sum::<f64>() / rewards.len().max(1) as f64;
    let learned = samples.records.iter().filter(|(r, _)| r.advantage.is_some()).count();
    html! {
        p.summary {
            b { (samples.records.len() + samples.left_out) } " samples, "
            b { (rewards.len()) } " scored"
            @if !rewards.is_empty() { ", mean reward " b { (format::figure(mean)) } }
            @if learned == 0 { ", nothing learned: the rewards do not differ enough, or too few were scored" }
            @else { ", " b { (learned) } " learned from" }
        }
    }
}

fn sample(record: &Record, open: bool) -> Markup {
    html! {
        details.sample open[open] {
            summary {
                span.index { "#" (record.sample) }
                (verdict(record))
                span.reward {
                    "reward "
                    b { (layout::figure(record.score.reward.map(f64::from))) }
                }
                (advantage(record.advantage))
                @if record.finish == FinishReason::Length { span.tag.warn { "cut off by the length limit" } }
            }
            (completion(&record.completion))
            @if let Some(reason) = &record.score.masked {
                h4 { "Masked" } div.said { (shown_bounded(reason)) }
            }
            @if let Some(critique) = record.score.critique.as_deref().filter(|c| !c.is_empty()) {
                h4 { "Critique" } div.said { (shown_bounded(critique)) }
            }
            (components(record))
            p.small {
                "Ended by " (ended_by(record.finish)) "; " (versions(record))
            }
        }
    }
}

fn completion(text: &str) -> Markup {
    let split = split_reasoning(text);
    html! {
        @if let Some(reasoning) = split.reasoning {
            details.reasoning {
                summary { "Reasoning" span.bytes { " " (reasoning.chars().count()) " characters" } }
                div.said { (shown_bounded(reasoning)) }
            }
        }
        h4 { "Answer" }
        @match split.answer {
            Some("") => { (layout::note("Empty.")) }
            Some(answer) => { div.said.answer { (shown_bounded(answer)) } }
            None => { (layout::note("None: the reasoning does not close, or begins after other text.")) }
        }
    }
}

fn verdict(record: &Record) -> Markup {
    let (class, mark, word) = match Judged::of(&record.score) {
        Judged::Safe => ("safe", "✓", "safe"),
        Judged::Unsafe => ("unsafe", "✗", "unsafe"),
        Judged::Invalid => ("invalid", "?", "invalid"),
        Judged::Without => ("without", "–", "no verdict"),
        Judged::Masked => ("masked", "∅", "masked"),
    };
    html! { span class={ "verdict " (class) } { span aria-hidden="true" { (mark) } " " (word) } }
}

fn advantage(value: Option<f64>) -> Markup {
    let class = match value {
        Some(a) if a > 0.0 => "up",
        Some(a) if a < 0.0 => "down",
        _ => "level",
    };
    html! {
        span class={ "advantage " (class) } {
            @match value {
                Some(value) => { "advantage " b { (format::signed(value)) } }
                None => { "not learned from" }
            }
        }
    }
}

fn components(record: &Record) -> Markup {
    html! {
        @if !record.score.components.is_empty() {
            h4 { "Reward" }
            dl.components {
                @for (name, value) in &record.score.components {
                    div class=[value.is_null().then_some("unused")] {
                        dt { (shown(&name.replace('_', " "))) }
                        dd { (component(value)) }
                    }
                }
                div.total { dt { "reward" } dd { (layout::figure(record.score.reward.map(f64::from))) } }
            }
        }
    }
}

fn component(value: &Value) -> Markup {
    match value.as_f64() {
        Some(value) => html! { (format::figure(value)) },
        None if value.is_null() => html! { "–" },
        None => shown(&value.to_string()),
    }
}

fn ended_by(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "its end-of-text token",
        FinishReason::Length => "the length limit",
    }
}

/// Which policies sampled it: `27 tokens by version 55`.
fn versions(record: &Record) -> String {
    let parts = record.versions.iter().map(|s| format!("{} tokens by version {}", s.tokens, s.version));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(change: Value) -> Record {
        let mut line = json!({
            "stage": "grpo", "step": 2, "task": 7, "sample": 3, "kind": "harmful", "family": "role-play",
            "request": "r", "completion": "<think> t </think> a", "finish": "stop",
            "versions": [{"version": 55, "tokens": 20}, {"version": 56, "tokens": 7}],
            "score": {"reward": 0.25, "components": {"p_safe": 0.25, "on_topic": null}, "verdict": "unsafe", "critique": "breaks it"},
            "advantage": -0.378,
        });
        line.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    }

    fn html(record: Record, taken: bool) -> String {
        let samples = Samples { records: vec![(record, taken)], left_out: 0 };
        group(&samples, &Filter::default()).into_string()
    }

    #[test]
    fn everything_about_a_sample_is_there() {
        let html = html(record(json!({"spec": "rules", "gold": "7"})), true);
        for part in [
            "<bdi>harmful</bdi>",
            "<bdi>role-play</bdi>",
            "<bdi>rules</bdi>",
            "<bdi>7</bdi>",
            "<summary>Reasoning<span class=\"bytes\"> 1 characters</span></summary>",
            "</span> unsafe</span>",
            "reward <b>0.25</b>",
            "advantage down\">advantage <b>−0.378</b>",
            "<bdi>breaks it</bdi>",
            "<bdi>p safe</bdi></dt><dd>0.25</dd>",
            "<bdi>on topic</bdi></dt><dd>–</dd>",
            "20 tokens by version 55, 7 tokens by version 56",
            "<details class=\"sample\" open>",
        ] {
            assert!(html.contains(part), "{part} not in {html}");
        }
        assert!(html.contains("<details class=\"reasoning\">"), "reasoning is folded");
    }

    #[test]
    fn what_is_masked_or_does_not_match_is_told_and_folded() {
        let masked = json!({"score": {"masked": "invalid critique"}, "advantage": null, "finish": "length",
                            "completion": "<think> never closes"});
        let html = html(record(masked), false);
        assert!(
            html.contains("</span> masked</span>") && html.contains("<bdi>invalid critique</bdi>"),
            "{html}"
        );
        assert!(html.contains("not learned from") && html.contains("reward <b>–</b>"));
        assert!(
            html.contains("cut off by the length limit") && html.contains("the reasoning does not close")
        );
        assert!(html.contains("<details class=\"sample\">"), "folded");
    }

    #[test]
    fn hostile_words_stay_words() {
        let evil = "\"><script>alert(1)</script>\u{202e}\u{1b}[31m";
        let change = json!({
            "kind": evil, "family": evil, "spec": evil, "request": evil, "stage": evil,
            "completion": format!("<think>{evil}</think>{evil}"),
            "score": {"reward": 1.0, "components": {evil: evil}, "verdict": evil, "critique": evil},
        });
        let html = html(record(change), true);
        assert!(
            !html.contains("<script") && !html.contains('\u{202e}') && !html.contains('\u{1b}'),
            "{html}"
        );
        // Kind, family, stage, specification, request, reasoning, answer, critique, a component's name and value.
        assert_eq!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 10);
        assert_eq!(html.matches("⟨U+202E⟩").count(), 10);
    }
}
