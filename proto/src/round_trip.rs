//! Random domain values survive conversion, encoding, decoding and conversion back (proptest, seed 1).

use crate::{
    Chunk, Composition, Event, FinishReason, HelpGrader, JobEvent, JobId, JobState, JobStatus, Message,
    ModelFile, ModelManifest, Policy, PolicyVersion, PromptKind, RewardComponents, RolloutTask, SampleIndex,
    Sampling, ScoreOutcome, ScoreRequest, ScoreResult, Segment, Sha256, StepMetrics, TaskId, Trace,
    TraceOutcome, Verdict, VerifierLoad, pb,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use std::fmt::Debug;
use std::time::Duration;

const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

/// `value` through bytes and back.
fn travels<D, W>(value: D) -> Result<(), TestCaseError>
where
    D: Clone + PartialEq + Debug + TryFrom<W, Error: Debug>,
    W: From<D> + prost::Message + Default,
{
    let bytes = W::from(value.clone()).encode_to_vec();
    let wire = W::decode(bytes.as_slice()).expect("prost reads what it wrote");
    prop_assert_eq!(D::try_from(wire).expect("a valid value is accepted"), value);
    Ok(())
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let numbers = (0.0f32..10.0, 0.001f32..=1.0, any::<u32>(), 1..=1u32 << 20, any::<u64>(), any::<bool>());
    let rest = (0.0f32..=1.0, vec(".{1,20}", 0..4));
    (numbers, rest).prop_map(
        |((temperature, top_p, top_k, max_new_tokens, seed, ignore_eos), (min_p, stop))| Sampling {
            temperature,
            top_p,
            top_k,
            max_new_tokens,
            seed,
            ignore_eos,
            min_p,
            stop,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let parts = (select(vec!["system", "user", "assistant"]), ".{0,20}");
    parts.prop_map(|(role, content)| Message { role: role.into(), content })
}

fn task() -> impl Strategy<Value = RolloutTask> {
    let ids = ("[a-z0-9-]{1,20}", any::<u64>(), any::<u64>(), 1..=WEEK_MS);
    let parts = (ids, vec(message(), 1..4), btree_set(any::<u32>(), 1..9), sampling());
    parts.prop_map(|((job, task, version, lease_ms), messages, samples, sampling)| RolloutTask {
        job: JobId(job),
        task: TaskId(task),
        messages,
        samples: samples.into_iter().map(SampleIndex).collect(),
        sampling,
        min_version: PolicyVersion(version),
        lease: Duration::from_millis(lease_ms),
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let files = btree_map("[a-z_]{1,12}[.]json", (any::<u64>(), any::<[u8; 4]>()), 1..5);
    (any::<u64>(), files).prop_map(|(version, files)| {
        let file = |(name, (size_bytes, content)): (String, (u64, [u8; 4]))| ModelFile {
            name,
            size_bytes,
            sha256: Sha256::of(&content),
        };
        let manifest =
            ModelManifest::new(files.into_iter().map(file).collect()).expect("plain, unique names");
        Policy { version: PolicyVersion(version), manifest }
    })
}

/// Several segments, each one version newer than the last.
fn trace() -> impl Strategy<Value = Trace> {
    let ids = ("[a-z0-9-]{1,20}", any::<u64>(), any::<u32>(), 0..1u64 << 40, any::<u32>());
    let segments = vec(vec((any::<u32>(), -50.0f32..=0.0), 1..5), 1..4);
    let rest = (vec(any::<u32>(), 1..9), ".{0,20}", select(vec![FinishReason::Stop, FinishReason::Length]));
    (ids, segments, rest).prop_map(|(ids, segments, (prompt_tokens, text, finish))| Trace {
        job: JobId(ids.0),
        task: TaskId(ids.1),
        sample: SampleIndex(ids.2),
        prompt_tokens,
        tokens: segments.concat().iter().map(|t| t.0).collect(),
        logprobs: segments.concat().iter().map(|t| t.1).collect(),
        segments: (ids.3..)
            .zip(&segments)
            .map(|(v, s)| Segment { version: PolicyVersion(v), tokens: s.len() as u32 })
            .collect(),
        text,
        finish,
        generate: Duration::from_millis(ids.4.into()),
    })
}

fn score_request() -> impl Strategy<Value = ScoreRequest> {
    let kinds = select(vec![PromptKind::Harmful, PromptKind::Benign, PromptKind::Math]);
    let help = select(vec![HelpGrader::None, HelpGrader::Recipe]);
    let texts = ("[ -~]{1,9}", ".{0,20}", ".{1,20}", ".{0,40}", ".{1,9}");
    let rest = (kinds, help, any::<bool>(), vec("[a-z]{1,9}", 0..4), 1..=1u32 << 16);
    let compositions = select(vec![Composition::Paper, Composition::PaperPlus]);
    let reward = (1..=64u32, 0.0f32..9.0, compositions, any::<u64>());
    (texts, rest, reward).prop_map(|(texts, rest, (critiques, lower_bound, composition, version))| {
        let (kind, help, truncated, must_use, max_critique_tokens) = rest;
        let math = kind == PromptKind::Math;
        let (id, spec, request, completion, gold) = texts;
        ScoreRequest {
            verifier: (!math).then(|| Sha256::of(id.as_bytes())),
            gold: math.then_some(gold),
            id,
            kind,
            spec,
            request,
            completion,
            truncated,
            must_use,
            help,
            max_critique_tokens,
            critiques,
            lower_bound,
            composition,
            policy_version: PolicyVersion(version),
        }
    })
}

fn score_result() -> impl Strategy<Value = ScoreResult> {
    let factor = || option::of(0.0f32..=1.0);
    let components = (factor(), factor(), factor(), factor(), factor(), factor(), factor(), factor());
    let verdict = option::of(select(vec![Verdict::Safe, Verdict::Unsafe, Verdict::Invalid]));
    let scored = (0.0f32..=1.0, components, verdict, ".{0,20}").prop_map(|(reward, c, verdict, critique)| {
        let (p_safe, refused, well_formed, on_topic, correct, not_degenerate, p_mean, p_sd) = c;
        let components = RewardComponents {
            p_safe,
            refused,
            well_formed,
            on_topic,
            correct,
            not_degenerate,
            p_mean,
            p_sd,
        };
        ScoreOutcome::Scored { reward, components, verdict, critique }
    });
    let masked = ".{1,20}".prop_map(|reason| ScoreOutcome::Masked { reason });
    ("[ -~]{1,9}", prop_oneof![scored, masked]).prop_map(|(id, outcome)| ScoreResult { id, outcome })
}

fn job_status() -> impl Strategy<Value = JobStatus> {
    use JobState::{Cancelled, Failed, Paused, Preparing, Queued, Running, Succeeded};
    let states = select(vec![Queued, Preparing, Running, Paused, Succeeded, Failed, Cancelled]);
    let texts = ("[a-z0-9-]{1,20}", ".{1,20}", ".{0,20}", "[a-z/]{1,20}", "[a-z]{0,9}");
    let rest = (any::<i32>(), any::<u32>(), any::<[Option<u64>; 2]>());
    let all = (texts, states, any::<[u64; 3]>(), rest);
    all.prop_map(|(texts, state, [created_ms, step, steps], (priority, attempts, times))| JobStatus {
        id: JobId(texts.0),
        name: texts.1,
        state,
        reason: texts.2,
        run_dir: texts.3.into(),
        created_ms,
        stage: texts.4,
        step,
        steps,
        priority,
        attempts,
        started_ms: times[0],
        ended_ms: times[1],
    })
}

fn metrics() -> impl Strategy<Value = StepMetrics> {
    let values = btree_map("[a-z_/]{1,12}", -1e300f64..1e300, 0..6);
    ("[a-z]{1,9}", 1u64.., values).prop_map(|(stage, step, values)| StepMetrics { stage, step, values })
}

fn job_event() -> impl Strategy<Value = JobEvent> {
    let progress = ("[a-z]{1,9}", any::<[u64; 2]>());
    let log = (select(vec!["info", "warn", "error"]), ".{0,20}");
    let event = prop_oneof![
        job_status().prop_map(Event::State),
        progress.prop_map(|(stage, [done, total])| Event::Progress { stage, done, total }),
        metrics().prop_map(Event::Metrics),
        log.prop_map(|(level, message)| Event::Log { level: level.into(), message }),
    ];
    (1u64.., any::<u64>(), event).prop_map(|(cursor, time_ms, event)| JobEvent { cursor, time_ms, event })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn tasks(value in task()) { travels::<_, pb::RolloutTask>(value)?; }

    #[test]
    fn policies(value in policy()) { travels::<_, pb::Policy>(value)?; }

    #[test]
    fn traces(value in trace()) { travels::<_, pb::Trace>(value)?; }

    #[test]
    fn score_requests(value in score_request()) { travels::<_, pb::ScoreRequest>(value)?; }

    #[test]
    fn score_results(value in score_result()) { travels::<_, pb::ScoreResponse>(value)?; }

    #[test]
    fn jobs(value in job_status()) { travels::<_, pb::Job>(value)?; }

    #[test]
    fn job_events(value in job_event()) { travels::<_, pb::JobEvent>(value)?; }
}

/// Decodes and converts; a panic is the only failure.
fn converts<D: TryFrom<W>, W: prost::Message + Default>(bytes: &[u8]) {
    if let Ok(wire) = W::decode(bytes) {
        drop(D::try_from(wire));
    }
}

/// Reads the same bytes as every message that comes from outside.
fn converts_as_everything(bytes: &[u8]) {
    converts::<RolloutTask, pb::RolloutTask>(bytes);
    converts::<Policy, pb::Policy>(bytes);
    converts::<ModelManifest, pb::ModelManifest>(bytes);
    converts::<Chunk, pb::Chunk>(bytes);
    converts::<Trace, pb::Trace>(bytes);
    converts::<(u64, TraceOutcome), pb::TraceAck>(bytes);
    converts::<ScoreRequest, pb::ScoreRequest>(bytes);
    converts::<ScoreResult, pb::ScoreResponse>(bytes);
    converts::<VerifierLoad, pb::LoadVerifierStart>(bytes);
    converts::<JobStatus, pb::Job>(bytes);
    converts::<JobEvent, pb::JobEvent>(bytes);
}

/// A valid message of some kind.
fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    use prost::Message as _;
    prop_oneof![
        task().prop_map(|v| pb::RolloutTask::from(v).encode_to_vec()),
        policy().prop_map(|v| pb::Policy::from(v).encode_to_vec()),
        trace().prop_map(|v| pb::Trace::from(v).encode_to_vec()),
        score_request().prop_map(|v| pb::ScoreRequest::from(v).encode_to_vec()),
        score_result().prop_map(|v| pb::ScoreResponse::from(v).encode_to_vec()),
        job_event().prop_map(|v| pb::JobEvent::from(v).encode_to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in vec(any::<u8>(), 0..64)) {
        converts_as_everything(&bytes);
    }

    #[test]
    fn changed_messages_are_values_or_errors(
        mut bytes in message_bytes(), edits in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6), cut in any::<bool>(),
    ) {
        for (at, byte) in edits {
            let at = at.index(bytes.len().max(1));
            match bytes.get_mut(at) {
                Some(_) if cut => bytes.truncate(at),
                Some(place) => *place = byte,
                None => bytes.push(byte),
            }
        }
        converts_as_everything(&bytes);
    }
}
