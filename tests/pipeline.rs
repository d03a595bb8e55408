//! The SInternal stages as a job: collect → critique → curate → fine-tune, with a remote expert and the ablations.

use crate::support::{Cluster, base_model, lines};
use serde_json::Value;
use sinternal_service::testing::{FakeChatServer, Scripted};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The stages up to fine-tuning on 40 prompts of the world, two answers each.
fn job(model: &Path, sections: &str) -> String {
    format!(
        "name = \"pipeline\"\nseed = 3\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 40\ncollect_harmful = 0.6\ngrpo_mixture = [0.4, 0.4, 0.2]\n\
         [sampling]\nmax_new_tokens = 48\n[collect]\nsamples = 4\n{sections}",
        model.display()
    )
}

const SFT: &str = "[sft]\nepochs = 1\nbatch = 16\nlearning_rate = 1e-4\nreplay = 0.25\n";

/// An expert that calls recipes unsafe unless they are cooled; now and then it does not do as it was asked.
fn expert() -> FakeChatServer {
    let calls = AtomicUsize::new(0);
    FakeChatServer::start(move |request| {
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 | 7 => return Scripted::status(429, "slow down").with_header("retry-after", "0"),
            3 => return Scripted::Hang,
            11 => return Scripted::Close,
            _ => {}
        }
        let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
        assert!(!asked.contains("<think>"), "the expert must not see reasoning: {asked}");
        let answer = asked.split("[answer ").nth(1).unwrap_or_default();
        if answer.contains("means") {
            return Scripted::answer("I would rather not say.");
        }
        let verdict = if answer.contains("first") && !answer.contains("cool") { "unsafe" } else { "safe" };
        Scripted::answer(format!("It gives what it gives.\njudgment: {verdict}"))
    })
}

fn data(cluster: &Cluster, id: &str, name: &str) -> Vec<Value> {
    lines(&cluster.runs().join(id).join("data").join(name))
}

fn manifest(cluster: &Cluster, id: &str, name: &str) -> Value {
    let path = cluster.runs().join(id).join("data").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ran(cluster: &Cluster, text: &str, more: &[&str]) -> String {
    let id = cluster.submit(text, more);
    let events = cluster.watch(&id).rows();
    assert_eq!(events.last().unwrap()["state"]["state"], "succeeded", "{:?}", events.last());
    id
}

#[test]
fn a_remote_expert_critiques_and_a_second_run_costs_nothing() {
    let cluster = Cluster::start(1);
    let (model, expert) = (base_model(cluster.path()), expert());
    let critique = format!(
        "[critique]\nexpert = \"chat\"\nbase_url = \"{}\"\nmodel = \"judge-1\"\ncall_s = 2.0\nretry_base_s = 0.01\n\
         max_concurrent = 4\ncache = \"{}\"\n",
        expert.base_url(),
        cluster.path().join("cache").display()
    );
    let id = ran(&cluster, &job(&model, &format!("{critique}{SFT}")), &[]);
    let critiqued = data(&cluster, &id, "critiqued.jsonl");
    assert_eq!((critiqued.len(), data(&cluster, &id, "collected.jsonl").len()), (160, 160));
    let count = |of: &dyn Fn(&Value) -> bool| critiqued.iter().filter(|row| of(row)).count();
    let (safe, broken) = (count(&|r| r["judgment"] == "safe"), count(&|r| r["judgment"] == "unsafe"));
    let unsure = count(&|r| r["raw"] == "I would rather not say.");
    assert!(safe > 20 && broken > 20 && unsure > 0, "{safe} {broken} {unsure}");
    assert!(critiqued.iter().all(|r| r["expert"] == "judge-1" || r["judgment"] == "invalid"));
    let counts = &manifest(&cluster, &id, "critiqued.manifest.json")["counts"];
    let sum: u64 = counts.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(sum, 160, "{counts}");
    // The report of what was dropped adds up, and what is left is what was fine-tuned on.
    let rows = data(&cluster, &id, "verification.jsonl");
    let report = manifest(&cluster, &id, "drop-report.json");
    let of = |key: &str| {
        report["classes"].as_array().unwrap().iter().map(|c| c[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((of("rows_in"), of("rows_out")), (160, rows.len() as u64));
    assert!(rows.iter().all(|r| r["judgment"] == r["verdict"] && r["critique"] == "It gives what it gives."));
    assert!(expert.most_at_once() <= 4);

    // The answers are the same, so the cache answers for the expert; and the ablation leaves its part out.
    let calls = expert.calls();
    let ablation = format!("{critique}{SFT}target = \"judgment\"\n");
    let again = ran(&cluster, &job(&model, &ablation), &[]);
    assert_eq!(expert.calls(), calls);
    let bare = data(&cluster, &again, "verification.jsonl");
    assert!(
        bare.len() == rows.len() && bare.iter().all(|r| r["critique"].is_null() && !r["judgment"].is_null())
    );
}

#[test]
fn an_expert_that_refuses_the_key_fails_the_job_with_the_reason() {
    let cluster = Cluster::start(1);
    let (model, refusing) =
        (base_model(cluster.path()), FakeChatServer::start(|_| Scripted::status(401, "bad key")));
    let critique = format!(
        "[critique]\nexpert = \"chat\"\nbase_url = \"{}\"\nmodel = \"judge-1\"\n",
        refusing.base_url()
    );
    let id = cluster.submit(&job(&model, &format!("{critique}{SFT}")), &[]);
    let events = cluster.watch(&id).stdout;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["state"]["state"], "failed");
    let reason = last["state"]["reason"].as_str().unwrap();
    assert!(reason.contains("401") && reason.contains("bad key"), "{reason}");
    assert!(refusing.calls() <= 8, "it stops at once");
}

#[test]
fn oracle_and_live_rewards_train() {
    let cluster = Cluster::start(1);
    let model = base_model(cluster.path());
    let grpo = "[grpo]\nsteps = 2\nprompts = 6\ngroup_size = 4\nlearning_rate = 1e-4\nhelp = \"recipe\"\n";
    let head = job(&model, "").replace("[collect]\nsamples = 4\n", "");
    let id = ran(&cluster, &format!("{head}{grpo}reward = \"oracle\"\n"), &[]);
    let samples = lines(&cluster.runs().join(&id).join("samples.jsonl"));
    let safety: Vec<&Value> = samples.iter().filter(|s| s["kind"] != "math").collect();
    let whole = |s: &&&Value| [0.0, 1.0].contains(&s["score"]["reward"].as_f64().unwrap());
    assert!(safety.len() == 16 && safety.iter().all(|s| whole(&s) && s["score"]["verdict"].is_null()));
    let verifier = "[verifier]\nlive = true\nmax_critique_tokens = 24\ngate_answers = 100\n\
                    gate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n";
    let id = ran(&cluster, &format!("{head}{verifier}{grpo}"), &["--unsafe-skip-verifier-gate"]);
    let steps = cluster.metrics(&id);
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|s| s["masked"] == 0.0 && s["p_safe"].as_f64().unwrap() > 0.5));
}

#[test]
fn what_only_later_stages_read_is_checked_before_answers_are_paid_for() {
    let cluster = Cluster::start(1);
    let model = base_model(cluster.path());
    let chat = "[critique]\nexpert = \"chat\"\nbase_url = \"http://127.0.0.1:9\"\nmodel = \"judge-1\"\n";
    for (sections, expected) in [
        (
            "[decontaminate]\nsets = [{ suite = \"xstest\", path = \"absent.csv\" }]\n".to_owned(),
            "absent.csv",
        ),
        (format!("{chat}api_key_env = \"SINTERNAL_NO_SUCH_KEY\"\n"), "SINTERNAL_NO_SUCH_KEY"),
        ("[critique]\nexpert = \"world\"\nmodel = \"judge-1\"\n".to_owned(), "critique.model"),
    ] {
        let refused = cluster.try_submit(&job(&model, &format!("{sections}{SFT}")), &[]);
        assert!(!refused.status.success() && refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn a_guard_takes_out_what_it_contradicts_and_totals_stand_in_the_manifests() {
    let cluster = Cluster::start(1);
    let model = base_model(cluster.path());
    // As an expert it is asked with a system message, as a guard with the exchange; as a guard it calls every recipe unsafe.
    let judge = FakeChatServer::start(|request| {
        if request["messages"][0]["role"] == "user" {
            let answer = request["messages"][1]["content"].as_str().unwrap_or_default();
            return Scripted::answer(if answer.contains("first") { "unsafe\nS2" } else { "safe" });
        }
        let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
        let answer = asked.split("[answer ").nth(1).unwrap_or_default();
        let verdict = if answer.contains("first") && !answer.contains("cool") { "unsafe" } else { "safe" };
        Scripted::answer(format!("It gives what it gives.\njudgment: {verdict}"))
    });
    let keys = format!(
        "expert = \"chat\"\nbase_url = \"{}\"\nprice_input = 1.0\nprice_output = 1.0\n",
        judge.base_url()
    );
    let sections = format!(
        "[critique]\n{keys}model = \"expert-1\"\n[guard]\nform = \"llama-guard\"\n[guard.by]\n{keys}model = \"guard-1\"\n{SFT}"
    );
    let id = ran(&cluster, &job(&model, &sections), &[]);
    let labels = data(&cluster, &id, "labels.jsonl");
    let critiqued = data(&cluster, &id, "critiqued.jsonl");
    let judged = critiqued.iter().filter(|row| row["judgment"] != "invalid");
    assert_eq!(labels.len(), judged.clone().count());
    assert!(labels.iter().all(|label| label["by"] == "guard-1" && label["unsafe"].is_boolean()));
    let cooled =
        |answer: &Value| ["first", "cool"].iter().all(|word| answer.as_str().unwrap().contains(word));
    let contradicted = judged.filter(|row| cooled(&row["collected"]["answer"])).count() as u64;
    let report = manifest(&cluster, &id, "drop-report.json");
    let classes = report["classes"].as_array().unwrap();
    let dropped: u64 = classes.iter().map(|c| c["dropped"]["disagrees"].as_u64().unwrap_or(0)).sum();
    assert!(dropped > 0 && dropped == contradicted, "{dropped} {contradicted}");
    assert!(data(&cluster, &id, "verification.jsonl").iter().all(|row| !cooled(&row["answer"])));
    let report = cluster.runs().join(&id).join("report.json");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    for (section, name, rows) in
        [("critique", "critiqued", critiqued.len()), ("guard", "labels", labels.len())]
    {
        let totals = &manifest(&cluster, &id, &format!("{name}.manifest.json"))["endpoint"];
        assert_eq!(&report[section], totals);
        let of = |key: &str| totals[key].as_u64().unwrap();
        assert!(of("requests") <= rows as u64 && of("requests") > 100, "{totals}");
        assert!(of("input_tokens") > 0 && totals["cost"].as_f64().unwrap() > 0.0, "{totals}");
    }
}
