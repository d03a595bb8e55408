use super::*;
use crate::algorithm::{Cispo, Clip, Importance, Loss, Surrogate};

fn job(sampling: &str, grpo: &str) -> Result<JobSpec, String> {
    let text = format!(
        "name = \"j\"\nmodel = \"m\"\n[data]\nkind = \"gsm8k\"\npath = \"p\"\n[sampling]\n{sampling}\n\
         [grpo]\nsteps = 10\nprompts = 4\ngroup_size = 2\nlearning_rate = 1e-4\n{grpo}\n"
    );
    JobSpec::parse(&text, "job.toml", Path::new("/"))
}

fn grpo(text: &str) -> GrpoSpec {
    job("", text).unwrap().grpo.unwrap()
}

#[test]
fn without_a_word_it_is_the_plain_clipped_surrogate() {
    let plain = Loss {
        surrogate: Surrogate::Clip(Clip { low: 0.2, high: 0.2, dual: None }),
        importance: None,
        kl: 0.0,
        estimator: KlEstimator::K3,
        entropy: 0.0,
    };
    assert_eq!(grpo("").loss(), plain);
    assert_eq!(JobSpec::default().grpo.unwrap().loss(), Loss { kl: 0.05, ..plain });
    assert_eq!((grpo("").overlong, grpo("").dynamic_sampling.max_refills), (Overlong::default(), 0));
}

#[test]
fn every_option_is_read_and_survives_being_written_out() {
    let text = "objective = \"cispo\"\nclip_high = 4\nkl = 0.1\nkl_estimator = \"k2\"\nentropy = 1e-3\n\
                importance = { kind = \"mask\", high = 4 }\noverlong = { buffer = 8, mask = true }\n\
                dynamic_sampling.max_refills = 3";
    let spec = job("", text).unwrap();
    let grpo = spec.grpo.unwrap();
    let mask = Importance::Mask { low: 0.5, high: 4.0 };
    let expected = Loss {
        surrogate: Surrogate::Cispo(Cispo { high: 4.0 }),
        importance: Some(mask),
        kl: 0.1,
        estimator: KlEstimator::K2,
        entropy: 1e-3,
    };
    assert_eq!(grpo.loss(), expected);
    assert_eq!((grpo.overlong, grpo.dynamic_sampling.max_refills), (Overlong { buffer: 8, mask: true }, 3));
    let written = toml::to_string(&spec).unwrap();
    assert_eq!(JobSpec::parse(&written, "written", Path::new("/")).unwrap(), spec, "{written}");
}

#[test]
fn each_mistake_is_one_line_that_names_its_key() {
    for (text, expected) in [
        ("objective = \"ppo\"", "`grpo.objective`: unknown variant `ppo`"),
        ("dual_clip = 1.0", "grpo.dual_clip: must be greater than 1"),
        (
            "objective = \"cispo\"\nclip_high = 4.0\ndual_clip = 3.0",
            "grpo.dual_clip: has a meaning only with",
        ),
        ("objective = \"cispo\"", "grpo.clip_high: is missing"),
        ("objective = \"gspo\"", "grpo.aggregation: must be \"sequence-mean-token-mean\""),
        ("kl_estimator = \"k4\"", "`grpo.kl_estimator`: unknown variant `k4`"),
        ("entropy = -1.0", "grpo.entropy: must be a finite number, 0 or more"),
        ("kl = nan", "grpo.kl: must be a finite number, 0 or more"),
        ("importance = \"truncate\"", "`grpo.importance`: invalid type"),
        ("importance = { kind = \"trim\" }", "`grpo.importance.kind`: unknown variant `trim`"),
        ("importance = { kind = \"truncate\", cap = 0.5 }", "grpo.importance.cap: must be at least 1"),
        ("importance = { kind = \"truncate\", high = 2.0 }", "did you mean `grpo.importance.cap`?"),
        ("importance = { kind = \"mask\", low = 2.0 }", "grpo.importance.low: must lie in 0–1"),
        ("importance = { kind = \"mask\", high = 0.5 }", "grpo.importance.high: must be at least 1"),
        ("overlong.buffer = 17", "grpo.overlong.buffer: must be at most sampling.max_new_tokens"),
        ("overlong.bufer = 7", "did you mean `grpo.overlong.buffer`?"),
        ("dynamic_sampling.max_refills = 200000000", "grpo.dynamic_sampling.max_refills: their product"),
        ("dynamic_sampling.refills = 2", "did you mean `grpo.dynamic_sampling.max_refills`?"),
    ] {
        let error = job("max_new_tokens = 16", text).unwrap_err();
        assert!(error.contains(expected) && error.lines().count() == 1, "{text}: {error}");
    }
}

#[test]
fn the_documentation_names_every_key_of_the_section() {
    let documentation = include_str!("../../../docs/ALGORITHMS.md");
    let text = "clip_high = 0.3\ndual_clip = 3.0\nimportance.kind = \"mask\"";
    let table = toml::Table::try_from(grpo(text)).unwrap();
    let mut keys: Vec<String> = table.keys().cloned().collect();
    for section in ["importance", "overlong", "dynamic_sampling"] {
        keys.extend(table[section].as_table().unwrap().keys().map(|key| format!("{section}.{key}")));
    }
    keys.push("importance.cap".into());
    for key in keys.iter().filter(|k| !["importance", "overlong", "dynamic_sampling"].contains(&&***k)) {
        assert!(documentation.contains(&format!("`{key}`")), "{key} is not documented");
    }
}

#[test]
fn the_example_of_the_documentation_is_a_job() {
    let documentation = include_str!("../../../docs/ALGORITHMS.md");
    let example = documentation.split("```").nth(1).unwrap().strip_prefix("toml").unwrap();
    let text = format!("name = \"j\"\nmodel = \"m\"\n[data]\nkind = \"prompts\"\npath = \"p\"\n{example}");
    let grpo = JobSpec::parse(&text, "example", Path::new("/")).unwrap().grpo.unwrap();
    assert_eq!(grpo.loss().importance, Some(Importance::Truncate { cap: 2.0 }));
}

#[test]
fn sampling_is_checked_and_names_its_field() {
    let problem = |change: fn(&mut SamplingSpec)| {
        let mut spec = JobSpec::default();
        change(&mut spec.sampling);
        spec.check().err()
    };
    assert_eq!(problem(|s| (s.min_p, s.stop) = (0.1, vec!["###".into()])), None);
    assert_eq!(problem(|s| s.min_p = 1.5).unwrap(), "sampling.min_p: must lie in [0, 1]");
    let stop = "sampling.stop: must be 16 texts at most, of 1 to 256 bytes each";
    assert_eq!(problem(|s| s.stop = vec![String::new()]).unwrap(), stop);
    assert_eq!(problem(|s| s.stop = vec!["x".into(); 17]).unwrap(), stop);
    let think = |open: &str, close: &str| {
        let markers = format!("think = [\"{open}\", \"{close}\"]");
        job(&markers, "").map(|spec| spec.sampling.think)
    };
    let pair = ["[THINK]", "[/THINK]"].map(str::to_owned);
    assert_eq!(think("[THINK]", "[/THINK]").unwrap(), Some(pair));
    for (open, close) in [("x", "x"), ("", "x"), ("<t>", "<t></t>"), (" t", "/t")] {
        let error = think(open, close).unwrap_err();
        assert!(error.starts_with("job.toml: sampling.think: must be two different texts"), "{error}");
    }
}

fn audited(audit: &str) -> Result<JobSpec, String> {
    let audit = Some(toml::from_str(audit).map_err(|e| e.to_string())?);
    let spec = JobSpec { audit, ..JobSpec::default() };
    JobSpec::parse(&toml::to_string(&spec).unwrap(), "job.toml", Path::new("/jobs"))
}

#[test]
fn audits_have_one_second_judge_and_something_to_check() {
    let audit = audited("every = 5\noracle = true\nstop = true").unwrap().audit.unwrap();
    assert_eq!((audit.every, audit.answers, audit.canaries, audit.judged()), (5, 64, 4, true));
    let guard = audited("model = \"guards/q\"\nguard = \"qwen3guard\"").unwrap().audit.unwrap();
    assert_eq!(guard.model.as_deref(), Some(Path::new("/jobs/guards/q")));
    for (text, expected) in [
        ("oracle = true\njudge = \"a\"", "audit: has several second judges"),
        ("stop = true", "audit.stop: needs a second judge"),
        ("guard = \"wildguard\"", "audit.guard: needs audit.model"),
        ("canaries = 0", "audit: checks nothing"),
        ("every = 0", "audit.every: must be at least 1"),
        ("margin = 1.0", "audit.margin: must lie in (0, 1)"),
        ("judges = 3", "unknown field `judges`"),
    ] {
        let error = audited(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let oracle = JobSpec { audit: Some(AuditSpec::default()), ..JobSpec::default() };
    let grpo = oracle.grpo.map(|g| GrpoSpec { reward: RewardSource::Oracle, ..g });
    let error = JobSpec { grpo, ..oracle }.check().unwrap_err();
    assert!(error.contains("audit: needs [grpo] with the rewards of a [verifier]"), "{error}");
}

#[test]
fn suites_are_named_once_and_wait_for_no_later_step() {
    let of = |suites: &str, staleness| {
        let spec = JobSpec { suites: Some(toml::from_str(suites).unwrap()), ..JobSpec::default() };
        let grpo = spec.grpo.map(|g| GrpoSpec { staleness, ..g });
        let spec = JobSpec { grpo, ..spec };
        JobSpec::parse(&toml::to_string(&spec).unwrap(), "job.toml", Path::new("/jobs"))
    };
    let one = "sets = [{ suite = \"xstest\", path = \"x.csv\" }]\n";
    let suites = of(&format!("every = 5\n{one}"), 0).unwrap().suites.unwrap();
    assert_eq!((suites.samples, &*suites.sets[0].path), (1, Path::new("/jobs/x.csv")));
    let twice = "sets = [{ suite = \"xstest\", path = \"x\" }, { suite = \"xstest\", path = \"y\" }]";
    for (text, staleness, expected) in [
        ("sets = []", 0, "suites.sets: names no suite"),
        (twice, 0, "suites.sets: names a suite twice"),
        (&*format!("every = 5\n{one}"), 1, "suites.every: needs grpo.staleness = 0"),
        (&*format!("samples = 0\n{one}"), 0, "suites.samples: must lie in 1–4096"),
    ] {
        let error = of(text, staleness).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

mod foreign {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::RngSeed;

    /// One line with the job file's name, or a job.
    fn is_read_or_refused(text: &str) -> Result<(), TestCaseError> {
        if let Err(error) = JobSpec::parse(text, "job.toml", Path::new("/")) {
            prop_assert!(error.starts_with("job.toml:") && error.lines().count() == 1, "{}", error);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 128, rng_seed: RngSeed::Fixed(20_260_601), failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_is_a_job_or_an_error(
            text in "(?s).{0,120}|([a-z]{1,8}|\\[|\\]|=|\"|'|\\.|\n|-?[0-9]{1,20}|nan|inf| |\\{|\\}){0,60}",
        ) {
            is_read_or_refused(&text)?;
        }

        #[test]
        fn a_changed_job_is_a_job_or_an_error(
            at in any::<Index>(), removed in 0usize..24, put in "(?s).{0,3}|-1|1e999|nan|\\[x\\]|99999999999999999999|\"\"",
        ) {
            let text = toml::to_string(&JobSpec::default()).expect("a job file");
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let after = (at + removed).min(chars.len());
            let changed: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[after..].iter().copied()).collect();
            is_read_or_refused(&changed)?;
        }

        #[test]
        fn any_number_in_any_key_is_taken_or_refused(line in any::<Index>(), number in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:e}")),
            Just("nan".to_owned()), Just("-inf".to_owned()),
        ]) {
            let text = toml::to_string(&JobSpec::default()).expect("a job file");
            let numeric = |line: &&str| line.split_once(" = ").is_some_and(|(_, v)| v.parse::<f64>().is_ok());
            let lines: Vec<&str> = text.lines().filter(numeric).collect();
            let chosen = lines[line.index(lines.len())];
            let (key, _) = chosen.split_once(" = ").expect("a pair");
            is_read_or_refused(&text.replacen(chosen, &format!("{key} = {number}"), 1))?;
        }
    }
}
