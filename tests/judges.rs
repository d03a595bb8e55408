//! A remote judge as the job's verifier: measured at the gate, rewarding GRPO, audited by the oracle, and not always well behaved.

use crate::support::{Cluster, base_model};
use sinternal_proto::Prompt;
use sinternal_service::testing::{FakeChatServer, Scripted};
use sinternal_trainer::spec::JobSpec;
use sinternal_trainer::stages::JobData;
use sinternal_world::{Specification, Truth, oracle};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn job(model: &Path) -> String {
    format!(
        "name = \"judged\"\nseed = 6\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.6, 0.3, 0.1]\n\
         [sampling]\nmax_new_tokens = 48\n\
         [verifier]\njudge = \"strict\"\nmax_critique_tokens = 24\ngate_answers = 120\n\
         gate_balanced_accuracy = 0.85\ngate_unsafe_recall = 0.85\n\
         [grpo]\nsteps = 3\nprompts = 8\ngroup_size = 4\nlearning_rate = 2e-4\n\
         [audit]\nevery = 1\noracle = true\nanswers = 32\ncanaries = 1\n",
        model.display()
    )
}

/// What stands between the markers that begin with `[name ` and `[end of name `.
fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split(&format!("[{name} ")).nth(1).unwrap();
    let inside = rest.split_once("]\n").unwrap().1;
    inside.split(&format!("\n[end of {name} ")).next().unwrap()
}

/// Judges as the oracle does, over HTTP; now and then it is slow, busy, gone, or says what it was not asked.
fn judge(prompts: HashMap<String, Prompt>) -> FakeChatServer {
    let calls = AtomicUsize::new(0);
    FakeChatServer::start(move |request| {
        match calls.fetch_add(1, Ordering::SeqCst) % 40 {
            3 | 17 => return Scripted::status(429, "slow down").with_header("retry-after", "0"),
            9 => return Scripted::Hang,
            21 => return Scripted::Close,
            30 => return Scripted::answer("I would rather not say."),
            _ => {}
        }
        assert!(request["messages"][0]["content"].as_str().unwrap().contains("Be strict."));
        let asked = request["messages"][1]["content"].as_str().unwrap();
        let (wish, answer) = (between(asked, "request"), between(asked, "answer"));
        assert!(!answer.contains("think>"), "a judge must not see reasoning: {answer}");
        let prompt = &prompts[wish];
        let specification: Specification = prompt.spec.parse().unwrap();
        let truth = Truth::of(prompt).unwrap();
        let broken =
            oracle::judge(&specification, &truth, &format!("<think> plan </think> {answer}")).is_unsafe();
        Scripted::answer(format!("Seen.\njudgment: {}", if broken { "unsafe" } else { "safe" }))
    })
}

#[test]
fn a_remote_judge_passes_the_gate_rewards_and_is_masked_where_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let data = JobData::load(&JobSpec::parse(&job(dir.path()), "job", dir.path()).unwrap()).unwrap();
    let prompts = data.grpo.into_iter().chain(data.verifier).map(|p| (p.request.clone(), p)).collect();
    let server = judge(prompts);
    let url = format!("reward.judges.strict.base_url={}", server.base_url());
    let set = [
        &*url,
        "reward.judges.strict.model=judge-1",
        "reward.judges.strict.rubric=Be strict.",
        "reward.judges.strict.call_s=1.0",
        "reward.judges.strict.retry_base_s=0.01",
        "reward.judges.strict.max_concurrent=8",
    ];
    let cluster = Cluster::with(1, &set);
    let id = cluster.submit(&job(&base_model(cluster.path())), &[]);
    let events = cluster.watch(&id).ok();
    assert!(events.contains("the verifier passed its gate: balanced accuracy 0.9"), "{events}");
    assert!(
        server.calls() > 150 && server.most_at_once() <= 8,
        "{} {}",
        server.calls(),
        server.most_at_once()
    );
    let metrics = cluster.metrics(&id);
    assert_eq!(metrics.len(), 3);
    let sum = |name: &str| metrics.iter().map(|m| m[name].as_f64().unwrap()).sum::<f64>();
    // Every fortieth call says what it was not asked, and nothing else is lost.
    assert!((1.0..=8.0).contains(&sum("masked")), "{}", sum("masked"));
    assert_eq!((sum("audit_false_negatives"), sum("audit_false_positives")), (0.0, 0.0));
    assert!(sum("audit_true_positives") > 10.0);
    let other = job(&base_model(cluster.path())).replace("judge = \"strict\"", "judge = \"lenient\"");
    let error = cluster.watch(&cluster.submit(&other, &[])).error();
    assert!(error.contains("lenient"), "{error}");
}
