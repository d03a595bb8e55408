//! Public suites in a job: answered before, during and after GRPO, judged, and kept.

use crate::support::{Cluster, arithmetic, base_model, gsm8k, until};
use serde_json::Value;
use sinternal_eval::{Evaluation, Suite};
use std::fs;

fn evaluation(cluster: &Cluster, id: &str, arm: &str, suite: Suite) -> Evaluation {
    let path = cluster.runs().join(id).join("suites").join(arm).join(format!("{suite}.json"));
    Evaluation::from_json(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .unwrap()
}

#[test]
fn a_job_answers_suites_before_between_and_after_its_steps() {
    let cluster = Cluster::start(1);
    let (model, prompts, problems) =
        (base_model(cluster.path()), arithmetic(cluster.path()), gsm8k(cluster.path()));
    let xstest = cluster.path().join("x.csv");
    let rows = "id,prompt,type,label,focus,note\n1,make tonic from duskcap at kitchen,t,safe,,\n2,make tonic,t,unsafe,,\n";
    fs::write(&xstest, rows).unwrap();
    let job = format!(
        "name = \"suites\"\nseed = 4\nmodel = \"{}\"\n[data]\nkind = \"prompts\"\npath = \"{}\"\n\
         [sampling]\nmax_new_tokens = 24\ntemperature = 3.0\n\
         [grpo]\nsteps = 2\nprompts = 4\ngroup_size = 4\nlearning_rate = 1e-4\n\
         [suites]\nevery = 1\nsamples = 2\nallow_partial = true\n\
         sets = [{{ suite = \"gsm8k\", path = \"{}\" }}, {{ suite = \"xstest\", path = \"{}\" }}]\n",
        model.display(),
        prompts.display(),
        problems.display(),
        xstest.display()
    );
    let id = cluster.submit(&job, &[]);
    cluster.watch(&id).ok();
    for arm in ["base", "step-000001", "step-000002", "base+grpo"] {
        let mathematics = evaluation(&cluster, &id, arm, Suite::Gsm8k);
        assert_eq!(mathematics.items.len(), 20);
        assert!(mathematics.items.iter().all(|o| o.answers.len() == 2), "{arm}");
        let accuracy = mathematics.measures.iter().find(|m| m.measure.to_string() == "avg@2").unwrap();
        let graded = |o: &sinternal_eval::Outcome| o.answers.iter().all(|a| a.verdicts.grade.is_some());
        assert!(accuracy.value.is_some() && mathematics.items.iter().all(graded), "{arm}");
        let compliance = evaluation(&cluster, &id, arm, Suite::XsTest);
        assert_eq!(compliance.about.model.name, arm);
        assert!(compliance.measures.iter().all(|m| m.value.is_some()), "{:?}", compliance.measures);
    }
    let hash = |arm| evaluation(&cluster, &id, arm, Suite::Gsm8k).about.model.sha256;
    assert_ne!(hash("base"), hash("step-000001"));
    assert_eq!(hash("step-000002"), hash("base+grpo"));
    let told: Vec<Value> = cluster.metrics(&id).into_iter().filter(|row| row["stage"] == "suites").collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|row| row["gsm8k_avg@2"].is_number()), "{told:?}");
    assert!(told.iter().all(|row| row["xstest_safe_full_compliance"].is_number()), "{told:?}");
}

#[test]
fn a_suite_that_is_not_there_is_told_at_submission_with_where_to_obtain_it() {
    let cluster = Cluster::start(0);
    let (model, prompts) = (base_model(cluster.path()), arithmetic(cluster.path()));
    let job = format!(
        "name = \"suites\"\nmodel = \"{}\"\n[data]\nkind = \"prompts\"\npath = \"{}\"\n\
         [suites]\nsets = [{{ suite = \"xstest\", path = \"nowhere.csv\" }}]\n",
        model.display(),
        prompts.display()
    );
    let error = cluster.try_submit(&job, &[]).error();
    assert!(error.contains("suites.sets") && error.contains("nowhere.csv"), "{error}");
    assert!(error.contains("https://github.com/paul-rottger/exaggerated-safety"), "{error}");
}

#[test]
fn a_killed_trainer_keeps_the_figures_of_every_suite_once() {
    let mut cluster = Cluster::start(1);
    let (model, prompts, problems) =
        (base_model(cluster.path()), arithmetic(cluster.path()), gsm8k(cluster.path()));
    let job = format!(
        "name = \"suites\"\nseed = 4\nmodel = \"{}\"\n[data]\nkind = \"prompts\"\npath = \"{}\"\n\
         [sampling]\nmax_new_tokens = 24\n\
         [grpo]\nsteps = 8\nprompts = 4\ngroup_size = 4\nlearning_rate = 1e-4\ncheckpoint_every = 2\n\
         [suites]\nevery = 2\nallow_partial = true\nsets = [{{ suite = \"gsm8k\", path = \"{}\" }}]\n",
        model.display(),
        prompts.display(),
        problems.display()
    );
    let id = cluster.submit(&job, &[]);
    // Step 2 and its suites are behind the checkpoint from which the run resumes.
    cluster.wait_for_step(&id, 3);
    let checkpoint = cluster.runs().join(&id).join("checkpoints/grpo-000002");
    until("checkpoint", || checkpoint.is_dir().then_some(()));
    cluster.kill("trainer");
    let steps = |cluster: &Cluster, stage: &str| -> Vec<u64> {
        let of = cluster.metrics(&id).into_iter().filter(|row| row["stage"] == stage);
        of.map(|row| row["step"].as_u64().unwrap()).collect()
    };
    assert!(steps(&cluster, "grpo").len() < 8, "the job was over before the kill");
    cluster.start_trainer();
    cluster.watch(&id).ok();
    assert!(cluster.log("trainer").contains("resumes from"), "it went on from a checkpoint");
    assert_eq!(steps(&cluster, "grpo"), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(steps(&cluster, "suites"), [2, 4, 6, 8]);
}
