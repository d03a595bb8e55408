use super::*;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

const LEASE: Duration = Duration::from_secs(10);

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn group(task: u64, samples: u32, min_version: u64) -> Group {
    Group {
        job: JobId("j".into()),
        task: TaskId(task),
        messages: vec![Message { role: "user".into(), content: format!("prompt {task}") }],
        samples,
        done: Vec::new(),
        sampling: Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_new_tokens: 4,
            seed: 7,
            ignore_eos: false,
            min_p: 0.0,
            stop: Vec::new(),
        },
        min_version: PolicyVersion(min_version),
    }
}

fn worker(name: &str) -> WorkerId {
    WorkerId(name.into())
}

fn key(task: u64, sample: u32) -> SampleKey {
    SampleKey { job: JobId("j".into()), task: TaskId(task), sample: SampleIndex(sample) }
}

fn buffer(capacity: usize, workers: &[(&str, u32)]) -> WorkBuffer {
    let mut buffer = WorkBuffer::new(capacity, LEASE);
    for (name, total) in workers {
        buffer.add_worker(worker(name), *total);
    }
    buffer
}

fn shape(tasks: &[RolloutTask]) -> Vec<(u64, Vec<u32>)> {
    tasks.iter().map(|t| (t.task.0, t.samples.iter().map(|s| s.0).collect())).collect()
}

#[test]
fn samples_that_are_there_already_are_not_asked_for() {
    let (mut b, now) = (buffer(4, &[("a", 8)]), Instant::now());
    b.offer(Group { done: vec![SampleIndex(0), SampleIndex(2)], ..group(1, 4, 0) }).unwrap();
    let tasks = b.lease(&worker("a"), 8, PolicyVersion(0), now).unwrap();
    assert_eq!(shape(&tasks), [(1, vec![1, 3])]);
    assert_eq!(b.deliver(&key(1, 2), PolicyVersion(0)), Delivery::Duplicate);
    for sample in [1, 3] {
        assert_eq!(b.deliver(&key(1, sample), PolicyVersion(0)), Delivery::Accepted);
        b.take(&key(1, sample));
    }
    assert_eq!(b.stats().groups, 0);
    let nothing = Group { done: vec![SampleIndex(0)], ..group(2, 1, 0) };
    assert!(matches!(b.offer(nothing), Err(OfferRefused::Empty { .. })));
}

#[test]
fn groups_are_leased_whole_in_order_of_task_ids() {
    let (mut b, now) = (buffer(4, &[("a", 8)]), Instant::now());
    for task in [3, 1, 2] {
        b.offer(group(task, 3, 0)).unwrap();
    }
    // Room for 8 holds two groups of 3; the third would have to be split, so it waits.
    let tasks = b.lease(&worker("a"), 8, PolicyVersion(0), now).unwrap();
    assert_eq!(shape(&tasks), [(1, vec![0, 1, 2]), (2, vec![0, 1, 2])]);
    assert_eq!(b.lease(&worker("a"), 2, PolicyVersion(0), now), Err(Idle::NoRoom(3)));
    assert_eq!(b.stats(), BufferStats { groups: 3, waiting: 3, leased: 6, delivered: 0 });
}

#[test]
fn a_group_larger_than_the_worker_is_split() {
    let (mut b, now) = (buffer(1, &[("a", 4), ("b", 4)]), Instant::now());
    b.offer(group(1, 6, 0)).unwrap();
    let first = b.lease(&worker("a"), 4, PolicyVersion(0), now).unwrap();
    let second = b.lease(&worker("b"), 4, PolicyVersion(0), now).unwrap();
    assert_eq!(shape(&first), [(1, vec![0, 1, 2, 3])]);
    assert_eq!(shape(&second), [(1, vec![4, 5])]);
    assert_eq!(b.lease(&worker("a"), 4, PolicyVersion(0), now), Err(Idle::NothingWaits));
}

#[test]
fn a_group_waits_for_its_policy() {
    let (mut b, now) = (buffer(2, &[("a", 4)]), Instant::now());
    b.offer(group(1, 2, 3)).unwrap();
    assert_eq!(b.lease(&worker("a"), 4, PolicyVersion(2), now), Err(Idle::AwaitsPolicy(PolicyVersion(3))));
    assert_eq!(b.lease(&worker("a"), 4, PolicyVersion(3), now).unwrap()[0].min_version, PolicyVersion(3));
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(2)), Delivery::Stale { min_version: PolicyVersion(3) });
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(4)), Delivery::Accepted);
}

#[test]
fn only_missing_samples_are_leased_again() {
    let (mut b, now) = (buffer(1, &[("a", 4), ("b", 4)]), Instant::now());
    b.offer(group(1, 4, 0)).unwrap();
    b.lease(&worker("a"), 4, PolicyVersion(0), now).unwrap();
    assert_eq!(b.deliver(&key(1, 1), PolicyVersion(0)), Delivery::Accepted);
    assert_eq!(b.expire(now + seconds(9)), []);
    let lost: Vec<u32> = b.expire(now + seconds(10)).iter().map(|e| e.key.sample.0).collect();
    assert_eq!(lost, [0, 2, 3]);
    let again = b.lease(&worker("b"), 4, PolicyVersion(0), now + seconds(10)).unwrap();
    assert_eq!(shape(&again), [(1, vec![0, 2, 3])]);
    // The worker that was given up delivers late: welcome once.
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(0)), Delivery::Accepted);
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(0)), Delivery::Duplicate);
}

#[test]
fn a_heartbeat_extends_and_names_what_is_no_longer_held() {
    let (mut b, now) = (buffer(3, &[("a", 4), ("b", 4)]), Instant::now());
    b.offer(group(1, 2, 0)).unwrap();
    b.offer(group(2, 2, 0)).unwrap();
    b.lease(&worker("a"), 4, PolicyVersion(0), now).unwrap();
    let dropped = b.extend(&worker("a"), &[TaskId(1), TaskId(9)], now + seconds(8));
    assert_eq!(dropped, [TaskId(9)]);
    // Another worker cannot extend it.
    assert_eq!(b.extend(&worker("b"), &[TaskId(1)], now + seconds(8)), [TaskId(1)]);
    let lost: Vec<u64> = b.expire(now + seconds(17)).iter().map(|e| e.key.task.0).collect();
    assert_eq!(lost, [2, 2]);
    assert_eq!(b.expire(now + seconds(18)).len(), 2);
}

#[test]
fn a_place_is_free_once_all_samples_are_taken() {
    let (mut b, now) = (buffer(1, &[("a", 2)]), Instant::now());
    b.offer(group(1, 2, 0)).unwrap();
    assert_eq!(b.offer(group(2, 2, 0)), Err(OfferRefused::Full { capacity: 1 }));
    b.lease(&worker("a"), 2, PolicyVersion(0), now).unwrap();
    for sample in 0..2 {
        assert_eq!(b.deliver(&key(1, sample), PolicyVersion(0)), Delivery::Accepted);
    }
    assert_eq!(b.stats(), BufferStats { groups: 1, delivered: 2, ..BufferStats::default() });
    b.take(&key(1, 0));
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(0)), Delivery::Duplicate);
    b.take(&key(1, 1));
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(0)), Delivery::Unknown);
    assert_eq!(b.offer(group(2, 2, 0)), Ok(()));
}

#[test]
fn wrong_groups_and_workers_are_refused() {
    let (mut b, now) = (buffer(4, &[("a", 2)]), Instant::now());
    b.offer(group(1, 2, 0)).unwrap();
    let (job, task) = (JobId("j".into()), TaskId(1));
    assert_eq!(b.offer(group(1, 2, 0)), Err(OfferRefused::Repeated { job: job.clone(), task }));
    assert_eq!(b.offer(group(2, 0, 0)), Err(OfferRefused::Empty { job: job.clone(), task: TaskId(2) }));
    assert_eq!(b.lease(&worker("x"), 2, PolicyVersion(0), now), Err(Idle::UnknownWorker));
    assert_eq!(b.deliver(&key(1, 2), PolicyVersion(0)), Delivery::Unknown);
    assert_eq!((b.cancel(&job), b.stats()), (1, BufferStats::default()));
    assert_eq!(b.deliver(&key(1, 0), PolicyVersion(0)), Delivery::Unknown);
}

/// What the random schedule believes, kept apart from the buffer.
struct Model {
    holders: HashMap<SampleKey, (usize, Instant)>,
    delivered: HashSet<SampleKey>,
    /// Traces under way: (worker, key, version that samples it).
    running: Vec<(usize, SampleKey, PolicyVersion)>,
}

const GROUPS: u64 = 40;
const STALENESS: u64 = 1;
const GROUPS_A_STEP: u64 = 4;

/// Workers (three, of which some die and return under a new name) sample 40 groups of 5 while policies are published.
fn random_schedule(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut b = WorkBuffer::new(8, LEASE);
    let mut names: Vec<WorkerId> = (0..3).map(|i| worker(&format!("w{i}"))).collect();
    names.iter().for_each(|n| b.add_worker(n.clone(), 4));
    let mut model = Model { holders: HashMap::new(), delivered: HashSet::new(), running: Vec::new() };
    let (mut now, mut offered, mut published) = (Instant::now(), 0, PolicyVersion(0));
    for round in 0.. {
        assert!(round < 200_000, "seed {seed}: no progress");
        now += Duration::from_millis(rng.gen_range(0..3000));
        for expired in b.expire(now) {
            let (_, until) = model.holders.remove(&expired.key).expect("only leased samples expire");
            assert!(until <= now, "seed {seed}: expired early");
        }
        while offered < GROUPS {
            let min_version = (offered / GROUPS_A_STEP).saturating_sub(STALENESS);
            if b.offer(group(offered, 5, min_version)).is_err() {
                break;
            }
            offered += 1;
        }
        let w = rng.gen_range(0..3);
        match rng.gen_range(0..10) {
            0 => die(&mut b, &mut model, &mut names, w, &mut rng),
            1..=4 => lease(&mut b, &mut model, &names, w, published, now, seed),
            5 => heartbeat(&mut b, &mut model, &names, w, now),
            _ => deliver(&mut b, &mut model, &mut rng, seed),
        }
        // The learner updates once all groups of a step are in.
        let step = published.0 * GROUPS_A_STEP;
        if (step..step + GROUPS_A_STEP).all(|t| (0..5).all(|s| model.delivered.contains(&key(t, s)))) {
            published = published.next();
        }
        if model.delivered.len() as u64 == GROUPS * 5 {
            break;
        }
    }
    assert_eq!(b.stats(), BufferStats::default(), "seed {seed}: something is left");
}

fn die(b: &mut WorkBuffer, model: &mut Model, names: &mut [WorkerId], w: usize, rng: &mut ChaCha8Rng) {
    let released = b.remove_worker(&names[w]);
    let held: HashSet<_> =
        model.holders.iter().filter(|(_, (h, _))| *h == w).map(|(k, _)| k.clone()).collect();
    assert_eq!(released.iter().cloned().collect::<HashSet<_>>(), held);
    model.holders.retain(|_, (h, _)| *h != w);
    // Sometimes a dying worker's traces are still on the wire and arrive later.
    if rng.gen_bool(0.5) {
        model.running.retain(|(owner, ..)| *owner != w);
    }
    names[w] = worker(&format!("w{}", rng.r#gen::<u64>()));
    b.add_worker(names[w].clone(), 4);
}

fn lease(
    b: &mut WorkBuffer,
    model: &mut Model,
    names: &[WorkerId],
    w: usize,
    published: PolicyVersion,
    now: Instant,
    seed: u64,
) {
    let Ok(tasks) = b.lease(&names[w], 4, published, now) else {
        return;
    };
    for task in tasks {
        assert!(task.min_version <= published, "seed {seed}: leased before its policy");
        for sample in task.samples {
            let key = key(task.task.0, sample.0);
            assert!(!model.delivered.contains(&key), "seed {seed}: {key:?} leased though delivered");
            let before = model.holders.insert(key.clone(), (w, now + LEASE));
            assert!(before.is_none(), "seed {seed}: {key:?} leased twice");
            model.running.push((w, key, published));
        }
    }
}

fn heartbeat(b: &mut WorkBuffer, model: &mut Model, names: &[WorkerId], w: usize, now: Instant) {
    let mut held: Vec<TaskId> =
        model.holders.iter().filter(|(_, (h, _))| *h == w).map(|(k, _)| k.task).collect();
    held.sort_unstable();
    held.dedup();
    assert_eq!(b.extend(&names[w], &held, now), []);
    model.holders.values_mut().filter(|(h, _)| *h == w).for_each(|(_, until)| *until = now + LEASE);
}

fn deliver(b: &mut WorkBuffer, model: &mut Model, rng: &mut ChaCha8Rng, seed: u64) {
    if model.running.is_empty() {
        return;
    }
    let (_, key, version) = model.running.swap_remove(rng.gen_range(0..model.running.len()));
    match b.deliver(&key, version) {
        Delivery::Accepted => {
            assert!(model.delivered.insert(key.clone()), "seed {seed}: {key:?} accepted twice");
            model.holders.remove(&key);
            let step = key.task.0 / GROUPS_A_STEP;
            assert!(version.0 + STALENESS >= step, "seed {seed}: {key:?} is too stale");
            b.take(&key);
        }
        Delivery::Duplicate | Delivery::Unknown => {
            assert!(model.delivered.contains(&key), "seed {seed}: lost")
        }
        Delivery::Stale { .. } => panic!("seed {seed}: {key:?} was leased to too old a policy"),
    }
}

#[test]
fn every_sample_arrives_exactly_once_whoever_dies() {
    (0..200).for_each(random_schedule);
}
