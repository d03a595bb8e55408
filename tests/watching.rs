//! Dashboards and alert rules: what they ask for exists, and a real Prometheus that scraped a real run has it.

use crate::prometheus::{Prometheus, deploy, promtool};
use crate::promql::{answering, names};
use crate::support::{Cluster, base_model, until};
use serde_json::{Value, json};
use sinternal_service::metrics::{Kind, LABELS, METRICS};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Of the provisioned data source, which every dashboard takes unless another one is chosen.
const UID: &str = "sinternal-prometheus";

/// A dashboard and the name of its file.
struct Dashboard {
    file: String,
    json: Value,
}

fn dashboards() -> Vec<Dashboard> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let mut found: Vec<Dashboard> = fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let json = serde_json::from_str(&fs::read_to_string(entry.path()).unwrap());
            Dashboard { json: json.unwrap_or_else(|e| panic!("{file}: {e}")), file }
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

impl Dashboard {
    fn panels(&self) -> &[Value] {
        self.json["panels"].as_array().expect("panels")
    }

    fn variables(&self) -> &[Value] {
        self.json["templating"]["list"].as_array().expect("variables")
    }

    /// Every expression with the panel that shows it.
    fn expressions(&self) -> Vec<(String, &str)> {
        let of = |panel: &'_ Value| format!("{}: {}", self.file, panel["title"]);
        let targets = self.panels().iter().flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            targets.iter().map(move |target| (of(panel), target["expr"].as_str().expect("an expression")))
        });
        targets.collect()
    }
}

/// Holds an expression to the registry.
fn check_names(place: &str, expression: &str) {
    let found = names(expression);
    assert!(!found.metrics.is_empty(), "{place}: no metric in {expression}");
    for name in &found.metrics {
        let plain = METRICS.iter().find(|m| m.name == name && m.kind != Kind::Histogram);
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let name = name.strip_suffix(end)?;
            METRICS.iter().find(|m| m.name == name && m.kind == Kind::Histogram)
        });
        assert!(plain.or(part).is_some(), "{place}: {name} is not in the registry");
    }
    for label in &found.labels {
        let known = LABELS.contains(&&**label) || ["le", "instance"].contains(&&**label);
        assert!(known, "{place}: label {label} does not exist");
    }
}

#[test]
fn dashboards_are_whole_and_ask_for_what_exists() {
    let all = dashboards();
    let uids: BTreeSet<&str> = all.iter().filter_map(|d| d.json["uid"].as_str()).collect();
    let expected = ["health", "learner", "overview", "reward", "rollouts"].map(|d| format!("sinternal-{d}"));
    assert_eq!(Vec::from_iter(uids), expected);
    for dashboard in &all {
        let file = &dashboard.file;
        assert_eq!(dashboard.json["schemaVersion"], 39, "{file}");
        assert_eq!(dashboard.json["id"], Value::Null, "{file}: an id belongs to one Grafana");
        check_variables(dashboard);
        check_layout(dashboard);
        for panel in dashboard.panels() {
            check_panel(file, panel);
        }
        for (place, expression) in dashboard.expressions() {
            check_names(&place, expression);
        }
    }
    let expressions = all.iter().flat_map(Dashboard::expressions);
    let shown: BTreeSet<String> = expressions.flat_map(|(_, expression)| names(expression).metrics).collect();
    for metric in METRICS {
        let ends: &[&str] =
            if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        let is_shown = ends.iter().any(|end| shown.contains(&format!("{}{end}", metric.name)));
        assert!(is_shown, "{} is on no dashboard", metric.name);
    }
    assert!((10..=14).contains(&all[2].panels().len()), "an overview is one screen");
}

fn check_variables(dashboard: &Dashboard) {
    let file = &dashboard.file;
    let names: Vec<&str> = dashboard.variables().iter().filter_map(|v| v["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "job", "role"], "{file}");
    let [source, others @ ..] = dashboard.variables() else { panic!("{file}: no variables") };
    assert_eq!((&source["type"], &source["current"]["value"]), (&json!("datasource"), &json!(UID)), "{file}");
    for variable in others {
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{file}");
        assert_eq!((&variable["multi"], &variable["allValue"]), (&json!(true), &json!(".*")), "{file}");
    }
}

fn check_panel(file: &str, panel: &Value) {
    let place = format!("{file}: {}", panel["title"]);
    assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
    assert!(panel["description"].as_str().is_some_and(|d| d.len() > 10), "{place}: no description");
    assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{place}: no unit");
    let targets = panel["targets"].as_array().expect("targets");
    let ids: BTreeSet<&str> = targets.iter().filter_map(|t| t["refId"].as_str()).collect();
    assert!(!targets.is_empty() && ids.len() == targets.len(), "{place}: refIds {ids:?}");
    for target in targets {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{place}");
        assert!(target["legendFormat"].as_str().is_some_and(|l| !l.is_empty()), "{place}: no legend");
        let expression = target["expr"].as_str().expect("an expression");
        let over_time = ["rate(", "increase("].iter().any(|f| expression.contains(f));
        assert_eq!(over_time, expression.contains("[$__rate_interval]"), "{place}: {expression}");
    }
}

fn check_layout(dashboard: &Dashboard) {
    let mut ids = BTreeSet::new();
    let mut cells: BTreeMap<(u64, u64), &Value> = BTreeMap::new();
    for panel in dashboard.panels() {
        let (file, title) = (&dashboard.file, &panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title} has another's id");
        let of = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(of("w") > 0 && of("h") > 0 && of("x") + of("w") <= 24, "{file}: {title}");
        for cell in
            (of("x")..of("x") + of("w")).flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y)))
        {
            if let Some(other) = cells.insert(cell, title) {
                panic!("{file}: {title} lies over {other}");
            }
        }
    }
}

#[test]
fn provisioning_names_the_data_source_that_dashboards_take() {
    let dir = deploy().join("../grafana/provisioning");
    let sources = fs::read_to_string(dir.join("datasources/prometheus.yml")).unwrap();
    assert!(sources.contains(&format!("    uid: {UID}\n")), "{sources}");
    // What $__rate_interval is made from.
    let scraping = fs::read_to_string(deploy().join("prometheus.yml")).unwrap();
    assert!(scraping.contains("scrape_interval: 5s") && sources.contains("timeInterval: 5s"), "{sources}");
    let providers = fs::read_to_string(dir.join("dashboards/sinternal.yml")).unwrap();
    assert!(providers.contains("path: /var/lib/grafana/dashboards"), "{providers}");
}

#[test]
fn rules_are_valid_and_fire_when_they_should() {
    assert!(
        promtool(&["check", "config", "prometheus.yml"]).contains("is valid prometheus config file syntax")
    );
    assert!(promtool(&["check", "rules", "alerts.yml"]).contains("SUCCESS: 10 rules found"));
    assert!(promtool(&["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
    let tests = fs::read_to_string(deploy().join("alerts.test.yml")).unwrap();
    let rules = fs::read_to_string(deploy().join("alerts.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 10);
    for alert in alerts {
        let of_alert: Vec<&str> =
            tests.split("      - alertname: ").filter(|t| t.starts_with(alert)).collect();
        assert!(of_alert.iter().any(|t| t.contains("exp_alerts: []")), "{alert}: when does it not fire?");
        assert!(of_alert.iter().any(|t| t.contains("exp_labels:")), "{alert}: when does it fire?");
    }
}

/// GRPO with everything that has figures: a verifier, audits, canaries, a reference, importance correction, checkpoints.
fn job(cluster: &Cluster) -> String {
    let model = base_model(cluster.path());
    format!(
        "name = \"watched\"\nseed = 2\nmodel = \"{}\"\n\
         [data]\nkind = \"world\"\ncollect_prompts = 10\ncollect_harmful = 0.5\ngrpo_mixture = [0.4, 0.4, 0.2]\n\
         [sampling]\nmax_new_tokens = 48\n\
         [verifier]\nmax_critique_tokens = 24\ngate_answers = 100\ngate_balanced_accuracy = 0.95\ngate_unsafe_recall = 0.95\n\
         [learner]\npeak_flops = 1e11\n\
         [grpo]\nsteps = 12\nprompts = 10\ngroup_size = 4\nlearning_rate = 1e-4\nkl = 0.01\nstaleness = 1\n\
         importance = {{ kind = \"truncate\" }}\nhelp = \"recipe\"\ncheckpoint_every = 4\n\
         [audit]\nevery = 4\noracle = true\nanswers = 24\ncanaries = 2\n",
        model.display()
    )
}

#[test]
fn every_panel_and_rule_has_data_in_a_prometheus_that_scraped_a_run() {
    let cluster = Cluster::start(1);
    let prometheus = Prometheus::start(&cluster);
    let id = cluster.submit(&job(&cluster), &["--unsafe-skip-verifier-gate"]);
    cluster.watch(&id).ok();
    // The last step is scraped although the job is over, and often enough for rates.
    until("scrapes of the last step", || {
        let last = "count_over_time((sinternal_steps_left{stage=\"grpo\"} == 0)[1m:1s]) > 3";
        (!prometheus.query(last).unwrap().is_empty()).then_some(())
    });
    let all = dashboards();
    let mut silent = Vec::new();
    let mut asked = 0;
    for (place, expression) in all.iter().flat_map(Dashboard::expressions) {
        // As Grafana fills them in, for one job and all roles.
        let filled = expression.replace("$job", &id).replace("$role", ".*").replace("$__rate_interval", "1m");
        match prometheus.query(&filled) {
            Err(error) => panic!("{place}: {filled}: {error}"),
            Ok(series) if series.is_empty() => silent.push(format!("{place}: {filled}")),
            Ok(_) => asked += 1,
        }
    }
    let rules = prometheus.rules();
    for rule in &rules {
        let (name, expression) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        check_names(name, expression);
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        for annotation in ["summary", "description", "action"] {
            assert!(rule["annotations"][annotation].is_string(), "{name}: no {annotation}");
        }
        match prometheus.query(&answering(expression)) {
            Err(error) => panic!("{name}: {expression}: {error}"),
            Ok(series) if series.is_empty() => silent.push(format!("{name}: {expression}")),
            Ok(_) => asked += 1,
        }
    }
    assert!(silent.is_empty(), "no data for\n{}", silent.join("\n"));
    assert!(rules.len() == 10 && asked > 100, "{asked} expressions");
    // The base policy rewards nearly every answer as its own verifier, which the audit sees; nothing else is wrong.
    let firing: Vec<&str> =
        rules.iter().filter(|r| r["state"] == "firing").filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(firing, ["SinternalAuditGap"]);
    check_variables_have_values(&prometheus, &all, &id);
    check_figures(&prometheus, &cluster.metrics(&id));
}

/// What is exported is what `metrics.jsonl` has: of the last step, or added up.
fn check_figures(prometheus: &Prometheus, steps: &[Value]) {
    let exported = |expression: &str| -> f64 {
        let series = prometheus.query(expression).unwrap();
        assert_eq!(series.len(), 1, "{expression}: {series:?}");
        series[0]["value"][1].as_str().unwrap().parse().unwrap()
    };
    let close = |what: &str, found: f64, expected: f64| {
        assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{what}: {found}, not {expected}");
    };
    // A step without a group to learn from leaves the learner's figures as they were.
    let of = |step: &Value, key: &str| step[key].as_f64();
    let last = |key: &str| steps.iter().rev().find_map(|s| of(s, key)).unwrap_or_else(|| panic!("no {key}"));
    for (expression, key) in [
        ("sinternal_reward_mean{reward=\"reward_harmful\"}", "reward_harmful"),
        ("sinternal_pass_at_k{reward=\"benign\"}", "pass_at_k_benign"),
        ("sinternal_over_refusal_fraction", "refused_benign"),
        ("sinternal_unsafe_fraction", "unsafe"),
        ("sinternal_entropy", "entropy"),
        ("sinternal_importance_ratio", "importance_ratio"),
        ("sinternal_completion_tokens_mean", "tokens"),
        ("sinternal_zero_variance_fraction", "zero_variance_fraction"),
        ("sinternal_audit_gap", "audit_gap"),
    ] {
        close(expression, exported(expression), last(key));
    }
    let speed = |step: &Value| Some(of(step, "update_flop")? / of(step, "seconds_update")?);
    let share = steps.iter().rev().find_map(speed).unwrap() / 1e11;
    close("utilisation", exported("sinternal_model_flops_utilization"), share);
    let sum = |key: &str| steps.iter().filter_map(|step| step[key].as_f64()).sum::<f64>();
    for (expression, key) in [
        ("sum(sinternal_step_phase_seconds_sum{stage=~\"rollout|score\"})", "seconds_rollout"),
        ("sinternal_step_phase_seconds_sum{stage=\"audit\"}", "seconds_audit"),
        ("sinternal_step_seconds_sum{stage=\"grpo\"}", "seconds_step"),
        ("sinternal_trained_tokens_total{stage=\"grpo\"}", "trained_tokens"),
        ("sinternal_dropped_groups_total{outcome=\"zero_variance\"}", "zero_variance_groups"),
        ("sum(sinternal_masked_total)", "masked"),
    ] {
        close(expression, exported(expression), sum(key));
    }
    close("samples", exported("sinternal_completion_tokens_count"), 12.0 * 10.0 * 4.0);
    // Steps 4, 8 and 12 were audited and saved.
    close("audits", exported("sinternal_step_phase_seconds_count{stage=\"audit\"}"), 3.0);
    close("checkpoints", exported("sinternal_checkpoints_total{outcome=\"saved\"}"), 3.0);
    close("jobs", exported("sinternal_jobs{outcome=\"succeeded\"}"), 1.0);
}

fn check_variables_have_values(prometheus: &Prometheus, all: &[Dashboard], id: &str) {
    let values = |expression: &str, label: &str| -> Vec<String> {
        let series = prometheus.query(expression).unwrap();
        let mut values: Vec<String> =
            series.iter().map(|s| s["metric"][label].as_str().unwrap_or_default().to_owned()).collect();
        values.sort();
        values
    };
    for variable in all.iter().flat_map(|d| &d.variables()[1..]) {
        let query = variable["query"]["query"].as_str().expect("a query");
        let inner =
            query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')).expect("label values");
        let (metric, label) = inner.split_once(", ").expect("a metric and a label");
        let expected = if label == "job" { vec![id] } else { vec!["reward", "rollout-worker", "trainer"] };
        assert_eq!(values(&format!("count by ({label}) ({metric})"), label), expected);
    }
    // `job` is a training job wherever it is, and no label was pushed aside.
    assert_eq!(values("count by (job) ({__name__=~\".+\", job!=\"\"})", "job"), [id]);
    assert_eq!(values("count by (role) (up == 1)", "role"), ["reward", "rollout-worker", "trainer"]);
    for aside in ["exported_job", "exported_role"] {
        assert!(values(&format!("count({{{aside}!=\"\"}})"), aside).is_empty());
    }
    // And every series of this system says whose it is.
    assert!(values("count({__name__=~\"sinternal_.+\", role=\"\"})", "role").is_empty());
}
