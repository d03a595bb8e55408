//! The web page of a real trainer in a real browser.

use crate::browser::Browser;
use crate::support::{Cluster, base_model, lines};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// GRPO on the world, judged by the base policy, which is no good judge but gives verdicts.
fn job(cluster: &Cluster, steps: u32, seed: u32) -> String {
    format!(
        "name = \"world {steps}\"\nseed = {seed}\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.5, 0.3, 0.2]\n\
         [sampling]\nmax_new_tokens = 48\n\
         [verifier]\nmax_critique_tokens = 24\ngate_answers = 60\ngate_balanced_accuracy = 0.9\ngate_unsafe_recall = 0.9\n\
         [grpo]\nsteps = {steps}\nprompts = 8\ngroup_size = 4\nlearning_rate = 1e-4\nmin_group_std = 0.0\n\
         [eval]\nitems = 20\nbefore = false\n",
        base_model(cluster.path()).display()
    )
}

fn submit(cluster: &Cluster, steps: u32, seed: u32) -> String {
    cluster.submit(&job(cluster, steps, seed), &["--unsafe-skip-verifier-gate"])
}

/// (samples, groups that have one) with this verdict.
fn with_verdict(samples: &[Value], verdict: &str) -> (usize, usize) {
    let of: Vec<&Value> = samples.iter().filter(|s| s["score"]["verdict"] == verdict).collect();
    let mut groups: Vec<String> = of.iter().map(|s| format!("{} {}", s["step"], s["task"])).collect();
    groups.dedup();
    (of.len(), groups.len())
}

#[tokio::test]
async fn a_browser_follows_a_job_and_reads_its_samples() {
    let mut cluster = Cluster::start(1);
    let site = format!("http://{}", cluster.metrics);
    let browser = Browser::start().await;
    let page = &browser;
    page.look("light", 1280, 900).await;

    // The list, a job in it, and its page, which is followed to its end without being touched.
    let first = submit(&cluster, 3, 4);
    page.goto(&site).await;
    page.text("table.jobs", "world 3").await;
    page.follow("world 3").await;
    page.text("h1", "world 3").await;
    page.text(".status", "succeeded").await;
    for part in ["Mean reward", "Components of the reward", "Seconds of a step", "Gradient norm"] {
        page.text("main", part).await;
    }
    page.text("main", "overridden").await;
    assert!(cluster.metrics(&first).iter().all(|step| step["refused_harmful"].is_number()));
    page.text(".figures", "attack success, known wrappers ↓").await;
    page.text("ul.files", "samples.jsonl").await;
    let gate = fs::read_to_string(cluster.runs().join(&first).join("gate.json")).unwrap();
    assert!(gate.contains("\"overridden\""), "{gate}");

    // Its samples, those of one verdict, and all about one of them.
    let samples = lines(&cluster.runs().join(&first).join("samples.jsonl"));
    let verdict = samples.iter().find_map(|s| s["score"]["verdict"].as_str()).expect("a verdict").to_owned();
    let (count, groups) = with_verdict(&samples, &verdict);
    assert!(count > 0, "{samples:?}");
    page.follow("Samples").await;
    page.text("h1", "Samples of world 3").await;
    page.click(&format!("select[name=verdict] option[value={verdict}]")).await;
    page.click("form.filter button").await;
    page.text(".turn", &format!("{groups} match")).await;
    let sample = page.text("details.sample[open]", "Answer").await;
    assert!(sample.contains(&verdict) && sample.contains("p safe"), "{sample}");
    let told = ["advantage +", "advantage −", "advantage 0", "not learned from"];
    assert!(told.iter().any(|words| sample.contains(words)), "{sample}");
    let thought = samples.iter().find(|s| s["score"]["verdict"] == verdict.as_str()).unwrap();
    assert!(thought["completion"].as_str().unwrap().contains("<think>") && !thought["spec"].is_null());
    let folded =
        "return +document.querySelector('details.sample[open] details.reasoning .said').checkVisibility()";
    assert_eq!(page.number(folded).await, 0);
    page.click("details.sample[open] details.reasoning > summary").await;
    assert_eq!(page.number(folded).await, 1);

    // Two jobs side by side.
    let second = submit(&cluster, 1, 5);
    cluster.watch(&second).ok();
    page.goto(&site).await;
    page.text("table.jobs", "world 1").await;
    page.click(&format!("[id='a-{first}']")).await;
    page.click(&format!("[id='b-{second}']")).await;
    page.click(".actions button").await;
    let differing = page.text("table.diff", "grpo.steps").await;
    assert!(["seed", "name"].iter().all(|key| differing.contains(key)), "{differing}");
    page.text(".figures", "B: base+grpo").await;
    page.text("main", "Mean reward: harmful").await;
    assert_eq!(page.complaints().await, Vec::<String>::new());

    pictures(page, &site, &first, &second).await;
    assert_eq!(page.complaints().await, Vec::<String>::new());

    // A trainer that is gone is missed.
    let third = submit(&cluster, 500, 6);
    cluster.wait_for_step(&third, 1);
    page.goto(&format!("{site}/jobs/{third}")).await;
    page.text(".status", "running").await;
    cluster.kill("trainer");
    page.text("#lost", "No answer from the trainer since").await;
}

/// Every page in both schemes and two widths; none is wider than its window.
async fn pictures(page: &Browser, site: &str, first: &str, second: &str) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&folder).unwrap();
    let pages = [
        ("jobs", site.to_owned()),
        ("job", format!("{site}/jobs/{first}")),
        ("samples", format!("{site}/jobs/{first}/samples")),
        ("compare", format!("{site}/compare?a={first}&b={second}")),
    ];
    for (name, url) in pages {
        page.goto(&url).await;
        for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)] {
            let png = page.picture(scheme, width).await;
            assert_eq!(png[16..20], u32::try_from(width).unwrap().to_be_bytes(), "{name}");
            fs::write(folder.join(format!("{name}-{scheme}-{width}.png")), png).unwrap();
            let wide = page.number("return document.documentElement.scrollWidth").await;
            assert!(wide <= width, "{name} at {width} is {wide} wide");
        }
    }
}
