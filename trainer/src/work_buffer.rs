//! Groups that wait for samples: who works on what, what is missing, and what came back.
//!
//! ```text
//! offer(group) ─► waiting ─lease─► leased ─deliver─► delivered ─take─► gone
//!                    ▲               │
//!                    └── expire ─────┘  only the samples that are missing
//! ```
//!
//! **Staleness is a capacity.** A group for step *t* carries `min_version = t − staleness` and is leased only once that
//! version is published, so work that could come back staler never exists.
//!
//! Clock-free: every decision takes `now`.

use sinternal_proto::{JobId, Message, PolicyVersion, RolloutTask, SampleIndex, Sampling, TaskId, WorkerId};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Several samples of one prompt, to be generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The job it belongs to.
    pub job: JobId,
    /// Unique in the job.
    pub task: TaskId,
    /// The chat.
    pub messages: Vec<Message>,
    /// Samples in the group; at least 1.
    pub samples: u32,
    /// Those of them that are there already.
    pub done: Vec<SampleIndex>,
    /// How to sample.
    pub sampling: Sampling,
    /// The oldest policy that may sample it.
    pub min_version: PolicyVersion,
}

/// Names one sample.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// Its job.
    pub job: JobId,
    /// Its group.
    pub task: TaskId,
    /// Its place in the group.
    pub sample: SampleIndex,
}

/// Why a group was not taken in; it is handed back.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OfferRefused {
    /// The buffer holds as many groups as it may.
    #[error("the work buffer is full ({capacity} groups)")]
    Full {
        /// Its bound in groups.
        capacity: usize,
    },
    /// The buffer holds a group of this name.
    #[error("task {task} of job {job} is already in the work buffer")]
    Repeated {
        /// The job.
        job: JobId,
        /// The group.
        task: TaskId,
    },
    /// A group without samples would never be done.
    #[error("task {task} of job {job} asks for no samples")]
    Empty {
        /// The job.
        job: JobId,
        /// The group.
        task: TaskId,
    },
}

/// Why a worker got nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Idle {
    /// It is not registered, or was evicted.
    #[error("the worker is not registered")]
    UnknownWorker,
    /// Every sample is leased or delivered.
    #[error("nothing waits to be sampled")]
    NothingWaits,
    /// What waits needs a newer policy.
    #[error("waits for policy {0}")]
    AwaitsPolicy(PolicyVersion),
    /// The next group is kept whole and has this many missing samples.
    #[error("the next group needs room for {0} sequences")]
    NoRoom(u32),
}

/// What became of a delivered sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// New; the caller keeps it and says [`WorkBuffer::take`] when it is used.
    Accepted,
    /// Delivered before.
    Duplicate,
    /// Of a group that is finished, cancelled or not known.
    Unknown,
    /// Sampled by a policy older than the group allows.
    Stale {
        /// The oldest that it allows.
        min_version: PolicyVersion,
    },
}

/// A sample whose lease ran out, and who held it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The silent worker.
    pub worker: WorkerId,
    /// What it did not deliver.
    pub key: SampleKey,
}

/// Samples in the buffer by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferStats {
    /// Groups that are not wholly taken.
    pub groups: usize,
    /// Samples nobody works on.
    pub waiting: usize,
    /// Samples a worker works on.
    pub leased: usize,
    /// Samples that came back and were not taken.
    pub delivered: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Waiting,
    Leased { worker: WorkerId, until: Instant },
    Delivered,
    Taken,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    slots: Vec<Slot>,
}

/// The state machine; see the module.
#[derive(Debug)]
pub struct WorkBuffer {
    capacity: usize,
    lease: Duration,
    entries: BTreeMap<(TaskId, JobId), Entry>,
    workers: HashMap<WorkerId, u32>,
}

impl WorkBuffer {
    /// Holds at most `capacity` groups; leases run out after `lease` unless extended.
    #[must_use]
    pub fn new(capacity: usize, lease: Duration) -> Self {
        Self { capacity, lease, entries: BTreeMap::new(), workers: HashMap::new() }
    }

    /// Takes a group in, at the back of the order of task ids.
    ///
    /// # Errors
    /// When the buffer is full, or the group is empty or already here.
    pub fn offer(&mut self, group: Group) -> Result<(), OfferRefused> {
        let key = (group.task, group.job.clone());
        let (task, job) = key.clone();
        let slot = |i| if group.done.contains(&SampleIndex(i)) { Slot::Taken } else { Slot::Waiting };
        let slots: Vec<Slot> = (0..group.samples).map(slot).collect();
        if !slots.contains(&Slot::Waiting) {
            return Err(OfferRefused::Empty { job, task });
        }
        if self.entries.contains_key(&key) {
            return Err(OfferRefused::Repeated { job, task });
        }
        if self.entries.len() >= self.capacity {
            return Err(OfferRefused::Full { capacity: self.capacity });
        }
        self.entries.insert(key, Entry { group, slots });
        Ok(())
    }

    /// Makes a worker known that decodes `max_sequences` at once.
    pub fn add_worker(&mut self, worker: WorkerId, max_sequences: u32) {
        self.workers.insert(worker, max_sequences);
    }

    /// Moves the leases of a worker to another, which it has become.
    pub fn rename_worker(&mut self, old: &WorkerId, new: &WorkerId) {
        self.workers.remove(old);
        for slot in self.entries.values_mut().flat_map(|e| &mut e.slots) {
            if let Slot::Leased { worker, .. } = slot
                && worker == old
            {
                worker.clone_from(new);
            }
        }
    }

    /// Forgets a worker; what it had not delivered waits again. Returns those samples.
    pub fn remove_worker(&mut self, worker: &WorkerId) -> Vec<SampleKey> {
        self.workers.remove(worker);
        let released = self.release(|holder, _| holder == worker);
        released.into_iter().map(|e| e.key).collect()
    }

    /// Leases groups of lowest task id to `worker`, which has room for `room` more sequences.
    ///
    /// A group's missing samples stay together; they are split only where they exceed all that the worker decodes at once.
    ///
    /// # Errors
    /// With the reason, when there is nothing for this worker now.
    pub fn lease(
        &mut self,
        worker: &WorkerId,
        room: u32,
        published: PolicyVersion,
        now: Instant,
    ) -> Result<Vec<RolloutTask>, Idle> {
        let total = *self.workers.get(worker).ok_or(Idle::UnknownWorker)?;
        let (mut room, mut tasks, mut idle) = (room.min(total), Vec::new(), Idle::NothingWaits);
        for entry in self.entries.values_mut() {
            let missing = entry.waiting().len();
            if missing == 0 {
                continue;
            }
            if entry.group.min_version > published {
                idle = Idle::AwaitsPolicy(entry.group.min_version);
                break;
            }
            let whole = missing.min(total as usize) as u32;
            if room == 0 || whole > room {
                idle = Idle::NoRoom(whole);
                break;
            }
            tasks.push(entry.lease_out(worker, whole as usize, self.lease, now));
            room -= whole;
        }
        if tasks.is_empty() { Err(idle) } else { Ok(tasks) }
    }

    /// Extends this worker's leases on `tasks` from `now`. Returns those on which it holds none, which it should drop.
    pub fn extend(&mut self, worker: &WorkerId, tasks: &[TaskId], now: Instant) -> Vec<TaskId> {
        let until = now + self.lease;
        tasks.iter().copied().filter(|task| !self.extend_one(worker, *task, until)).collect()
    }

    fn extend_one(&mut self, worker: &WorkerId, task: TaskId, until: Instant) -> bool {
        let mut held = false;
        let of_task = (task, JobId(String::new()))..;
        for (_, entry) in self.entries.range_mut(of_task).take_while(|((id, _), _)| *id == task) {
            for slot in &mut entry.slots {
                if let Slot::Leased { worker: holder, until: end } = slot
                    && holder == worker
                {
                    *end = until;
                    held = true;
                }
            }
        }
        held
    }

    /// Decides about a finished sample whose oldest segment was sampled by `oldest`. It is welcome from anyone, a worker
    /// whose lease ran out included, as long as it is missing.
    pub fn deliver(&mut self, key: &SampleKey, oldest: PolicyVersion) -> Delivery {
        let Some((min_version, slot)) = self.slot(key) else {
            return Delivery::Unknown;
        };
        match slot {
            Slot::Delivered | Slot::Taken => Delivery::Duplicate,
            Slot::Waiting | Slot::Leased { .. } if oldest < min_version => Delivery::Stale { min_version },
            Slot::Waiting | Slot::Leased { .. } => {
                *slot = Slot::Delivered;
                Delivery::Accepted
            }
        }
    }

    /// The delivered sample was used. Frees the group's place once all of its samples are.
    pub fn take(&mut self, key: &SampleKey) {
        let Some((_, slot)) = self.slot(key) else {
            return;
        };
        *slot = Slot::Taken;
        let id = (key.task, key.job.clone());
        if self.entries.get(&id).is_some_and(|e| e.slots.iter().all(|s| *s == Slot::Taken)) {
            self.entries.remove(&id);
        }
    }

    /// Returns samples whose lease ended before or at `now` to the queue.
    pub fn expire(&mut self, now: Instant) -> Vec<Expired> {
        self.release(|_, until| until <= now)
    }

    /// Drops all groups of a job. Returns how many there were.
    pub fn cancel(&mut self, job: &JobId) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(_, owner), _| owner != job);
        before - self.entries.len()
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        let mut stats = BufferStats { groups: self.entries.len(), ..BufferStats::default() };
        for slot in self.entries.values().flat_map(|e| &e.slots) {
            match slot {
                Slot::Waiting => stats.waiting += 1,
                Slot::Leased { .. } => stats.leased += 1,
                Slot::Delivered => stats.delivered += 1,
                Slot::Taken => {}
            }
        }
        stats
    }

    fn slot(&mut self, key: &SampleKey) -> Option<(PolicyVersion, &mut Slot)> {
        let entry = self.entries.get_mut(&(key.task, key.job.clone()))?;
        let slot = entry.slots.get_mut(key.sample.0 as usize)?;
        Some((entry.group.min_version, slot))
    }

    fn release(&mut self, gone: impl Fn(&WorkerId, Instant) -> bool) -> Vec<Expired> {
        self.entries.values_mut().flat_map(|entry| entry.release(&gone)).collect()
    }
}

impl Entry {
    fn waiting(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|i| self.slots[*i] == Slot::Waiting).collect()
    }

    fn lease_out(&mut self, worker: &WorkerId, count: usize, lease: Duration, now: Instant) -> RolloutTask {
        let chosen: Vec<usize> = self.waiting().into_iter().take(count).collect();
        for i in &chosen {
            self.slots[*i] = Slot::Leased { worker: worker.clone(), until: now + lease };
        }
        RolloutTask {
            job: self.group.job.clone(),
            task: self.group.task,
            messages: self.group.messages.clone(),
            samples: chosen.into_iter().map(|i| SampleIndex(i as u32)).collect(),
            sampling: self.group.sampling.clone(),
            min_version: self.group.min_version,
            lease,
        }
    }

    fn release(&mut self, gone: impl Fn(&WorkerId, Instant) -> bool) -> Vec<Expired> {
        let (job, task) = (&self.group.job, self.group.task);
        let mut released = Vec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if let Slot::Leased { worker, until } = slot
                && gone(worker, *until)
            {
                let key = SampleKey { job: job.clone(), task, sample: SampleIndex(i as u32) };
                released.push(Expired { worker: worker.clone(), key });
                *slot = Slot::Waiting;
            }
        }
        released
    }
}

#[cfg(test)]
mod tests;
