//! Rows for tests.

use crate::records::{CollectedRecord, CritiquedRecord, Label, PolicySource, VerificationRow};
use sinternal_proto::{PolicyVersion, PromptKind, SampleIndex, Sha256, Verdict};

/// A usable row; the kind is that of the id's first letter: `h1`, `b1`, `m1`.
pub(crate) fn row(prompt: &str, sample: u32, judgment: Verdict, answer: &str) -> CritiquedRecord {
    let kind = match &prompt[..1] {
        "h" => PromptKind::Harmful,
        "b" => PromptKind::Benign,
        _ => PromptKind::Math,
    };
    CritiquedRecord {
        collected: CollectedRecord {
            prompt: prompt.into(),
            kind,
            spec: "break no rule".into(),
            request: format!("please do {prompt}"),
            family: "plain".into(),
            sample: SampleIndex(sample),
            reasoning: "hm".into(),
            answer: answer.into(),
            reasoning_closed: true,
            truncated: false,
            policy: PolicySource { hash: Sha256::of(b"own"), version: PolicyVersion(3) },
            tokens: None,
        },
        expert: "expert".into(),
        critique: if judgment == Verdict::Invalid { String::new() } else { format!("on {prompt}#{sample}") },
        judgment,
        raw: (judgment == Verdict::Invalid).then(|| "well".into()),
        label: None,
    }
}

pub(super) fn labelled(row: CritiquedRecord, verdict: Verdict) -> CritiquedRecord {
    CritiquedRecord { label: Some(Label { verdict, by: "guard".into() }), ..row }
}

pub(super) fn asking(mut row: CritiquedRecord, request: &str) -> CritiquedRecord {
    row.collected.request = request.into();
    row
}

pub(super) fn refuses(answer: &str) -> bool {
    answer.starts_with("sorry")
}

pub(super) fn sources(rows: &[VerificationRow]) -> Vec<&str> {
    rows.iter().map(|row| row.source.split_once('@').expect("ids name their policy").0).collect()
}
