//! What tests of the hub and of its service share.

use super::{HubOptions, RolloutHub};
use crate::work_buffer::Group;
use sinternal_proto::{
    FinishReason, JobId, Message, PolicyVersion, SampleIndex, Sampling, Segment, TaskId, Trace,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn job() -> JobId {
    JobId("j".into())
}

pub(super) fn hub(dir: &Path, capacity: usize, lease: Duration) -> RolloutHub {
    RolloutHub::new(HubOptions {
        address: "127.0.0.1:7500".into(),
        published: dir.join("published"),
        capacity,
        lease,
        heartbeat: lease / 10,
        max_wait: lease / 2,
        offer_timeout: lease * 2,
    })
    .unwrap()
}

/// A model folder whose weights are `weights`.
pub(super) fn model(dir: &Path, weights: &[u8]) -> PathBuf {
    let folder = dir.join("model");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    // Published files are linked, so they are replaced and never written over.
    std::fs::write(folder.join("new"), weights).unwrap();
    std::fs::rename(folder.join("new"), folder.join("model.safetensors")).unwrap();
    folder
}

pub(super) fn group(task: u64, samples: u32, min_version: u64) -> Group {
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        max_new_tokens: 4,
        seed: 7,
        ignore_eos: false,
        min_p: 0.0,
        stop: Vec::new(),
    };
    Group {
        job: job(),
        task: TaskId(task),
        messages: vec![Message { role: "user".into(), content: "hello".into() }],
        samples,
        done: Vec::new(),
        sampling,
        min_version: PolicyVersion(min_version),
    }
}

pub(super) fn trace(task: u64, sample: u32, versions: &[u64]) -> Trace {
    Trace {
        job: job(),
        task: TaskId(task),
        sample: SampleIndex(sample),
        prompt_tokens: vec![1],
        tokens: vec![2; versions.len()],
        logprobs: vec![-0.5; versions.len()],
        segments: versions.iter().map(|v| Segment { version: PolicyVersion(*v), tokens: 1 }).collect(),
        text: format!("{task}/{sample}"),
        finish: FinishReason::Stop,
        generate: Duration::from_millis(3),
    }
}
