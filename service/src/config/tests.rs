use super::*;
use serde::Deserialize;
use std::time::Duration;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_text(
    file: &str,
    vars: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded<ServiceConfig>, String> {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("service.toml");
    std::fs::write(&path, file).expect("writable");
    let shown = dir.path().display().to_string() + "/";
    load(Some(&path), env(vars), &env(flags)).map_err(|error| error.to_string().replace(&shown, ""))
}

fn refusal(file: &str, vars: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load_text(file, vars, flags).expect_err("must be refused")
}

#[test]
fn each_layer_wins_over_the_ones_before() {
    let file = "[trainer]\nthreads = 3\nlease_s = 20\nheartbeat_s = 0.5\n[reward]\nthreads = 4\n";
    let vars = [
        ("SINTERNAL__TRAINER__THREADS", "5"),
        ("SINTERNAL__TRAINER__LEASE_S", "21"),
        ("SINTERNAL_RUN_ID", "x"),
    ];
    let loaded = load_text(file, &vars, &[("trainer.threads", "6")]).expect("valid");
    let config = &loaded.value;
    assert_eq!(config.trainer.threads, 6, "flag");
    assert_eq!(config.trainer.lease, Duration::from_secs(21), "environment");
    assert_eq!(config.trainer.heartbeat, Duration::from_millis(500), "file");
    assert_eq!(config.reward.threads, 4, "file");
    assert_eq!(config.reward.max_sequences, 64, "default");
    assert_eq!(loaded.origins["trainer.threads"], "command line");
    assert_eq!(loaded.origins["trainer.lease_s"], "SINTERNAL__TRAINER__LEASE_S");
    assert!(!loaded.origins.contains_key("reward.max_sequences"));
}

#[test]
fn no_sources_give_the_default() {
    let loaded = load::<ServiceConfig>(None, [], &[]).expect("defaults are valid");
    assert_eq!(loaded.value, ServiceConfig::default());
    assert_eq!(loaded.value.trainer.listen.to_string(), "127.0.0.1:7500");
}

#[test]
fn the_written_form_reads_back() {
    let config = ServiceConfig::default();
    let text = to_toml(&config).expect("representable");
    assert!(text.contains("lease_s = 30\n"), "{text}");
    assert_eq!(parse_strict::<ServiceConfig>(&text, "shown").expect("valid"), config);
}

#[test]
fn unknown_keys_name_source_and_nearest() {
    assert_eq!(
        refusal("[trainer]\nlisten_adr = 'x'\n", &[], &[]),
        "service.toml: unknown key `trainer.listen_adr`; did you mean `trainer.listen`?"
    );
    assert_eq!(
        refusal("", &[("SINTERNAL__REWRAD__THREADS", "2")], &[]),
        "SINTERNAL__REWRAD__THREADS: unknown key `rewrad.threads`; did you mean `reward.threads`?"
    );
    assert_eq!(
        refusal("", &[], &[("heartbeat_s", "2")]),
        "command line: unknown key `heartbeat_s`; did you mean `trainer.heartbeat_s`?"
    );
    assert_eq!(
        refusal("[trainer.threads]\nx = 1\n", &[], &[]),
        "service.toml: unknown key `trainer.threads.x`; did you mean `trainer.threads`?"
    );
}

#[test]
fn wrong_types_name_source_and_key() {
    assert_eq!(
        refusal("", &[("SINTERNAL__TRAINER__THREADS", "two")], &[]),
        "SINTERNAL__TRAINER__THREADS: `trainer.threads`: invalid type: string \"two\", expected usize"
    );
    assert_eq!(
        refusal("[trainer]\nthreads = 2.5\n", &[], &[]),
        "service.toml: `trainer.threads`: invalid type: floating point `2.5`, expected usize"
    );
    assert_eq!(
        refusal("trainer = 3\n", &[], &[]),
        "service.toml: `trainer`: invalid type: integer, expected a table"
    );
    assert_eq!(
        refusal("", &[], &[("log.format", "yaml")]),
        "command line: `log.format`: unknown variant `yaml`, expected `text` or `json`"
    );
    assert_eq!(
        refusal("", &[], &[("trainer.lease_s", "-1")]),
        "command line: `trainer.lease_s`: -1 is no duration"
    );
}

#[test]
fn syntax_errors_are_one_line_with_a_position() {
    let message = refusal("[trainer]\nthreads = = 2\n", &[], &[]);
    assert!(message.starts_with("service.toml:2:11: not TOML: "), "{message}");
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<ServiceConfig>(Some(Path::new("/no/such.toml")), [], &[]).expect_err("no file");
    assert!(error.to_string().starts_with("/no/such.toml: cannot be read: "), "{error}");
}

#[test]
fn rules_are_checked_with_the_source() {
    assert_eq!(
        refusal("[up]\nworkers = 0\n", &[], &[]),
        "service.toml: `up.workers` must be at least 1; it is 0"
    );
    assert_eq!(
        refusal("[trainer]\nheartbeat_s = 20\n", &[], &[]),
        "service.toml: `trainer.heartbeat_s` must be at most half of `trainer.lease_s`; they are 20 and 30 seconds"
    );
    let message = refusal("", &[("SINTERNAL__TRAINER__REWARD", "localhost")], &[]);
    assert!(
        message.starts_with("SINTERNAL__TRAINER__REWARD: `trainer.reward` must be an address"),
        "{message}"
    );
    load_text("", &[], &[("trainer.listen", "127.0.0.1:0"), ("reward.listen", "[::1]:0")])
        .expect("free ports");
}

#[test]
fn beyond_loopback_a_server_needs_tls_and_tokens() {
    let beyond = ("trainer.listen", "0.0.0.0:7500");
    let (certificate, key) = (("tls.certificate", "server.pem"), ("tls.key", "server.key"));
    let tokens = ("auth.tokens", "tokens.toml");
    for (given, missing) in [
        (vec![], "`tls.certificate` or `auth.tokens`"),
        (vec![certificate, key], "`auth.tokens`"),
        (vec![tokens], "`tls.certificate`"),
    ] {
        let flags = [vec![beyond], given].concat();
        assert_eq!(
            refusal("", &[], &flags),
            format!(
                "command line: `trainer.listen` must be a loopback address such as 127.0.0.1:7500 as long as \
                 {missing} is not set (`sinternal certs`, `sinternal token new`); it is 0.0.0.0:7500"
            )
        );
    }
    load_text("", &[], &[beyond, ("reward.listen", "[::]:7501"), certificate, key, tokens]).expect("both");

    let metrics = ("rollout_worker.metrics_listen", "0.0.0.0:7582");
    assert_eq!(
        refusal("", &[], &[metrics, certificate, key, tokens]),
        "command line: `rollout_worker.metrics_listen` must be a loopback address such as 127.0.0.1:7582 as long \
         as `metrics.allow_remote` is not true; it is 0.0.0.0:7582"
    );
    load_text("[metrics]\nallow_remote = true\n", &[], &[metrics]).expect("allowed");
}

#[test]
fn files_of_tls_come_together() {
    for (given, needed) in [
        ("tls.certificate", "tls.key"),
        ("tls.key", "tls.certificate"),
        ("tls.client_ca", "tls.certificate"),
        ("tls.client_certificate", "tls.client_key"),
        ("tls.client_key", "tls.client_certificate"),
    ] {
        let told = refusal("", &[], &[(given, "a.pem")]);
        assert_eq!(told, format!("command line: `{given}` needs `{needed}` beside it"));
    }
    assert_eq!(
        refusal("", &[], &[("rollout_worker.trainer", "https://far:7500")]),
        "command line: `rollout_worker.trainer` needs `tls.ca` to know its server by; it is `https://far:7500`"
    );
    let message = refusal("", &[], &[("rollout_worker.trainer", "http://far:7500")]);
    assert!(message.ends_with("beyond this machine it must begin with https://"), "{message}");
    let secured = load_text("[tls]\nca = 'ca.pem'\n", &[("SINTERNAL__AUTH__TOKEN_FILE", "w.token")], &[]);
    let secured = secured.expect("valid").value;
    assert_eq!(secured.auth.token_file.as_deref(), Some(Path::new("w.token")));
    let text = to_toml(&secured).expect("representable");
    assert_eq!(parse_strict::<ServiceConfig>(&text, "shown").expect("valid"), secured);
    assert_eq!(
        refusal("[tls]\ncertificat = 'x'\n", &[], &[]),
        "service.toml: unknown key `tls.certificat`; did you mean `tls.certificate`?"
    );
}

#[test]
fn remote_judges_are_chat_endpoints_with_a_rubric() {
    let file = "[reward.judges.strict]\nbase_url = 'https://x/v1'\nmodel = 'm'\nrubric = 'Be strict.'\n\
                [reward.judges.local]\nbase_url = 'http://127.0.0.1:8000/v1'\nmodel = 'm'\ncall_s = 5\n";
    let config = load_text(file, &[], &[]).expect("valid").value;
    let judges = &config.reward.judges;
    assert_eq!((judges.len(), judges["strict"].rubric.as_str()), (2, "Be strict."));
    assert_eq!(judges["local"].chat.call, Duration::from_secs(5));
    let text = to_toml(&config).expect("representable");
    assert_eq!(parse_strict::<ServiceConfig>(&text, "shown").expect("valid"), config, "{text}");
    let refused = |line: &str| {
        refusal(&format!("[reward.judges.a]\nbase_url = 'https://x/v1'\nmodel = 'm'\n{line}\n"), &[], &[])
    };
    assert_eq!(
        refused("modle = 'n'"),
        "service.toml: unknown key `reward.judges.a.modle`; did you mean `reward.judges.a.model`?"
    );
    assert_eq!(
        refused("temperature = 9"),
        "service.toml: `reward.judges.a.temperature` must be 0 to 2; it is 9"
    );
    assert_eq!(
        refused("rubric = 3"),
        "configuration: `reward.judges.a`: rubric must be a string; it is of type integer"
    );
    let missing = refusal("[reward.judges.a]\nmodel = 'm'\n", &[], &[]);
    assert!(missing.starts_with("configuration: `reward.judges.a.base_url` must be set"), "{missing}");
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    model: String,
    #[serde(default)]
    grpo: Grpo,
    #[serde(default)]
    suites: Vec<Suite>,
    #[serde(default)]
    weights: BTreeMap<String, f64>,
    #[serde(default)]
    judge: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Grpo {
    group_size: u32,
    clip: f64,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    name: String,
}

impl Config for Job {
    const OPTIONAL: &'static [&'static str] = &["judge"];
}

#[test]
fn a_job_file_is_read_strictly() {
    let text =
        "model = 'm'\njudge = 'j'\n[grpo]\ngroup_size = 8\n[weights]\nany = 0.5\n[[suites]]\nname = 's'\n";
    let job: Job = parse_strict(text, "job.toml").expect("valid");
    assert_eq!((job.grpo.group_size, job.weights["any"], job.judge.as_deref()), (8, 0.5, Some("j")));

    let refused = |text: &str| parse_strict::<Job>(text, "job.toml").expect_err("invalid").to_string();
    assert_eq!(
        refused("model = 'm'\n[grpo]\ngrop_size = 8\n"),
        "job.toml: unknown key `grpo.grop_size`; did you mean `grpo.group_size`?"
    );
    assert_eq!(refused("[grpo]\n"), "job.toml: missing key `model`");
    assert_eq!(
        refused("model = 'm'\n[[suites]]\nnmae = 's'\n"),
        "job.toml: unknown key `suites[0].nmae`; did you mean `suites[0].name`?"
    );
    assert_eq!(
        refused("model = 'm'\n[grpo]\ngroup_size = '8'\n"),
        "job.toml: `grpo.group_size`: invalid type: string \"8\", expected u32"
    );
}

#[test]
fn optional_keys_are_read_as_toml_from_the_environment() {
    let loaded: Loaded<Job> =
        load(None, env(&[("SINTERNAL__JUDGE", "gpt"), ("SINTERNAL__WEIGHTS__A", "1.5")]), &[])
            .expect("valid");
    assert_eq!((loaded.value.judge.as_deref(), loaded.value.weights["a"]), (Some("gpt"), 1.5));
}
