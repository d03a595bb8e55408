//! The store in one SQLite file, in WAL mode: a thread writes, everybody reads.

use super::schema::{MIGRATIONS, migrate};
use super::{Asked, JobStore, NewEvent, StoreError, StoredJob};
use crate::jobs::state;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, Transaction, params};
use sinternal_proto::{Event, JobEvent, JobId, JobStatus};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The file in the folder of runs.
const FILE: &str = "jobs.sqlite3";
/// A write that takes longer has failed, whatever becomes of it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Writes that may wait for the writer.
const QUEUE: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct SqliteStore {
    runs: PathBuf,
    path: PathBuf,
    writer: SyncSender<Write>,
    reader: Mutex<Connection>,
}

struct Write {
    change: Change,
    done: SyncSender<rusqlite::Result<()>>,
}

enum Change {
    Put(Box<StoredJob>, Vec<NewEvent>),
    Append(JobId, NewEvent),
}

impl SqliteStore {
    /// Opens `runs/jobs.sqlite3`, and creates or migrates it where needed. `keep` events are kept of each job. Only one process
    /// may have it open.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged, or newer than this program.
    pub fn open(runs: &Path, keep: u64) -> Result<Self, StoreError> {
        let path = runs.join(FILE);
        let failed = |source| StoreError::Sqlite { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(failed)?;
        // FULL: a commit returns once it is on disk. Readers see it after that.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
        migrate(&mut connection, MIGRATIONS, &path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&path, flags).map_err(failed)?;
        let (writer, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("job-store".into())
            .spawn(move || write_all(connection, &queue, keep))
            .map_err(|e| failed(rusqlite::Error::ToSqlConversionFailure(e.into())))?;
        Ok(Self { runs: runs.into(), path, writer, reader: Mutex::new(reader) })
    }

    fn write(&self, change: Change) -> Result<(), StoreError> {
        let path = || self.path.clone();
        let (done, answer) = sync_channel(1);
        self.writer.try_send(Write { change, done }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Slow { path: path(), after: DEADLINE },
            TrySendError::Disconnected(_) => StoreError::Gone { path: path() },
        })?;
        match answer.recv_timeout(DEADLINE) {
            Ok(written) => written.map_err(|source| StoreError::Sqlite { path: path(), source }),
            Err(RecvTimeoutError::Timeout) => Err(StoreError::Slow { path: path(), after: DEADLINE }),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Gone { path: path() }),
        }
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError + Copy {
        |source| StoreError::Sqlite { path: self.path.clone(), source }
    }

    fn bad_row(&self, row: String, problem: impl ToString) -> StoreError {
        StoreError::Row { path: self.path.clone(), row, problem: problem.to_string() }
    }
}

impl JobStore for SqliteStore {
    fn jobs(&self) -> Result<Vec<StoredJob>, StoreError> {
        let reader = self.reader();
        let mut select = reader.prepare("SELECT * FROM jobs").map_err(self.failed())?;
        let rows = select.query_map([], |row| Ok(read_job(row, &self.runs))).map_err(self.failed())?;
        rows.map(|row| {
            let job = row.and_then(|job| job).map_err(self.failed())?;
            job.map_err(|(id, problem)| self.bad_row(format!("job {id}"), problem))
        })
        .collect()
    }

    fn put(&self, job: &StoredJob, events: Vec<NewEvent>) -> Result<(), StoreError> {
        self.write(Change::Put(Box::new(job.clone()), events))
    }

    fn append(&self, job: &JobId, event: NewEvent) -> Result<(), StoreError> {
        self.write(Change::Append(job.clone(), event))
    }

    fn events(&self, job: &JobId, cursor: u64, max: usize) -> Result<Vec<JobEvent>, StoreError> {
        let reader = self.reader();
        let mut select = reader
            .prepare_cached(
                "SELECT cursor, time_ms, body FROM events WHERE job_id = ?1 AND cursor >= ?2 ORDER BY cursor LIMIT ?3",
            )
            .map_err(self.failed())?;
        let wanted = cursor.max(1);
        let rows = select
            .query_map(params![job.0, wanted, max], |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?))
            })
            .map_err(self.failed())?;
        let mut events = Vec::new();
        for row in rows {
            let (cursor, time_ms, body) = row.map_err(self.failed())?;
            let event: Event = serde_json::from_str(&body)
                .map_err(|e| self.bad_row(format!("event {cursor} of job {job}"), e))?;
            if events.is_empty() && cursor > wanted {
                events.push(gap(wanted, cursor, time_ms));
            }
            events.push(JobEvent { cursor, time_ms, event });
        }
        events.truncate(max);
        Ok(events)
    }
}

/// Stands for the events from `from` to before `first`, which are gone.
fn gap(from: u64, first: u64, time_ms: u64) -> JobEvent {
    let message = format!("events {from} to {} are no longer kept; metrics.jsonl has every step", first - 1);
    JobEvent { cursor: first - 1, time_ms, event: Event::Log { level: "warn".into(), message } }
}

fn write_all(mut connection: Connection, queue: &Receiver<Write>, keep: u64) {
    while let Ok(Write { change, done }) = queue.recv() {
        let written = write(&mut connection, change, keep);
        // Whoever asked may have given up by now, and has said so.
        drop(done.try_send(written));
    }
}

fn write(connection: &mut Connection, change: Change, keep: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    match change {
        Change::Put(job, events) => {
            put(&transaction, &job)?;
            for event in events {
                append(&transaction, &job.status.id, &event, keep)?;
            }
        }
        Change::Append(job, event) => append(&transaction, &job, &event, keep)?,
    }
    transaction.commit()
}

fn put(transaction: &Transaction<'_>, job: &StoredJob) -> rusqlite::Result<()> {
    let status = &job.status;
    let asked = job.asked.map(|asked| match asked {
        Asked::Pause => "pause",
        Asked::Cancel => "cancel",
    });
    let key = (!job.idempotency_key.is_empty()).then_some(&job.idempotency_key);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO jobs (id, name, state, reason, priority, created_ms, started_ms, ended_ms, stage, step, steps, \
         attempts, asked, idempotency_key, toml, base_dir, skip_verifier_gate) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, \
         started_ms = excluded.started_ms, ended_ms = excluded.ended_ms, stage = excluded.stage, \
         step = excluded.step, steps = excluded.steps, attempts = excluded.attempts, asked = excluded.asked, \
         skip_verifier_gate = excluded.skip_verifier_gate",
    )?;
    statement.execute(params![
        status.id.0,
        status.name,
        state::name(status.state),
        status.reason,
        status.priority,
        status.created_ms,
        status.started_ms,
        status.ended_ms,
        status.stage,
        status.step,
        status.steps,
        status.attempts,
        asked,
        key,
        job.toml,
        job.base_dir.to_string_lossy(),
        job.skip_verifier_gate,
    ])?;
    Ok(())
}

fn append(transaction: &Transaction<'_>, job: &JobId, new: &NewEvent, keep: u64) -> rusqlite::Result<()> {
    let body =
        serde_json::to_string(&new.event).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let cursor: u64 = transaction
        .prepare_cached("SELECT coalesce(max(cursor), 0) + 1 FROM events WHERE job_id = ?1")?
        .query_row([&job.0], |row| row.get(0))?;
    transaction
        .prepare_cached("INSERT INTO events (job_id, cursor, time_ms, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![job.0, cursor, new.time_ms, body])?;
    transaction
        .prepare_cached("DELETE FROM events WHERE job_id = ?1 AND cursor <= ?2")?
        .execute(params![job.0, cursor.saturating_sub(keep)])?;
    Ok(())
}

/// A row's job; the inner error is the id and what is wrong.
type ReadJob = rusqlite::Result<Result<StoredJob, (String, String)>>;

fn read_job(row: &Row<'_>, runs: &Path) -> ReadJob {
    let id: String = row.get("id")?;
    let state_name: String = row.get("state")?;
    let Some(state) = state::named(&state_name) else {
        return Ok(Err((id, format!("`{state_name}` is no state"))));
    };
    let asked = match row.get::<_, Value>("asked")? {
        Value::Null => None,
        Value::Text(text) if text == "pause" => Some(Asked::Pause),
        Value::Text(text) if text == "cancel" => Some(Asked::Cancel),
        other => return Ok(Err((id, format!("asked is {other:?}")))),
    };
    let status = JobStatus {
        run_dir: runs.join(&id),
        id: JobId(id),
        name: row.get("name")?,
        state,
        reason: row.get("reason")?,
        created_ms: row.get("created_ms")?,
        stage: row.get("stage")?,
        step: row.get("step")?,
        steps: row.get("steps")?,
        priority: row.get("priority")?,
        attempts: row.get("attempts")?,
        started_ms: row.get("started_ms")?,
        ended_ms: row.get("ended_ms")?,
    };
    Ok(Ok(StoredJob {
        status,
        idempotency_key: row.get::<_, Option<String>>("idempotency_key")?.unwrap_or_default(),
        toml: row.get("toml")?,
        base_dir: row.get::<_, String>("base_dir")?.into(),
        skip_verifier_gate: row.get("skip_verifier_gate")?,
        asked,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::JobState;

    fn job(runs: &Path, id: &str, key: &str) -> StoredJob {
        let status = JobStatus {
            id: JobId(id.into()),
            name: "n".into(),
            state: JobState::Queued,
            reason: "submitted".into(),
            run_dir: runs.join(id),
            created_ms: 5,
            stage: String::new(),
            step: 0,
            steps: 9,
            priority: -3,
            attempts: 0,
            started_ms: None,
            ended_ms: None,
        };
        StoredJob {
            status,
            idempotency_key: key.into(),
            toml: "name = \"n\"".into(),
            base_dir: "/jobs".into(),
            skip_verifier_gate: true,
            asked: None,
        }
    }

    fn progress(done: u64) -> NewEvent {
        NewEvent { time_ms: 10 * done, event: Event::Progress { stage: "sft".into(), done, total: 9 } }
    }

    fn cursors(store: &SqliteStore, id: &str, from: u64, max: usize) -> Vec<u64> {
        store.events(&JobId(id.into()), from, max).unwrap().iter().map(|e| e.cursor).collect()
    }

    #[test]
    fn jobs_and_events_are_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut changed = job(dir.path(), "a", "key");
        {
            let store = SqliteStore::open(dir.path(), 100).unwrap();
            store.put(&job(dir.path(), "a", "key"), vec![progress(1), progress(2)]).unwrap();
            changed.status.state = JobState::Running;
            (changed.status.step, changed.status.started_ms, changed.asked) =
                (4, Some(8), Some(Asked::Pause));
            store.put(&changed, vec![progress(3)]).unwrap();
            store.put(&job(dir.path(), "b", ""), vec![]).unwrap();
            store.put(&job(dir.path(), "c", ""), vec![]).unwrap();
        }
        let store = SqliteStore::open(dir.path(), 100).unwrap();
        let mut jobs = store.jobs().unwrap();
        jobs.sort_by(|x, y| x.status.id.cmp(&y.status.id));
        assert_eq!(jobs, [changed, job(dir.path(), "b", ""), job(dir.path(), "c", "")]);
        store.append(&JobId("a".into()), progress(4)).unwrap();
        assert_eq!(cursors(&store, "a", 0, 9), [1, 2, 3, 4]);
        assert_eq!(cursors(&store, "a", 2, 2), [2, 3]);
        assert!(cursors(&store, "a", 5, 9).is_empty() && cursors(&store, "b", 0, 9).is_empty());
        let JobEvent { time_ms, event, .. } = store.events(&JobId("a".into()), 3, 1).unwrap().remove(0);
        assert_eq!(NewEvent { time_ms, event }, progress(3));
    }

    #[test]
    fn a_gap_says_so_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), 2).unwrap();
        store.put(&job(dir.path(), "a", ""), (1..=5).map(progress).collect()).unwrap();
        // 2 and 3 are gone: the note stands at 3, then 4 and 5 follow.
        let read = store.events(&JobId("a".into()), 2, 9).unwrap();
        assert_eq!(read.iter().map(|e| e.cursor).collect::<Vec<_>>(), [3, 4, 5]);
        let Event::Log { message, .. } = &read[0].event else { panic!("{read:?}") };
        assert_eq!(message, "events 2 to 3 are no longer kept; metrics.jsonl has every step");
        assert_eq!(cursors(&store, "a", 4, 9), [4, 5]);
    }

    #[test]
    fn what_breaks_a_rule_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), 9).unwrap();
        store.put(&job(dir.path(), "a", "key"), vec![progress(1)]).unwrap();
        let twice = store.put(&job(dir.path(), "b", "key"), vec![progress(1)]).unwrap_err().to_string();
        let path = dir.path().join(FILE);
        assert_eq!(twice, format!("{}: UNIQUE constraint failed: jobs.idempotency_key", path.display()));
        assert!(store.append(&JobId("b".into()), progress(1)).is_err());
        assert_eq!((store.jobs().unwrap().len(), cursors(&store, "b", 0, 9).len()), (1, 0));
    }

    #[test]
    fn a_file_that_is_no_store_of_ours_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, "not a database, and longer than a header of one hundred bytes".repeat(9))
            .unwrap();
        let foreign = SqliteStore::open(dir.path(), 9).unwrap_err().to_string();
        assert_eq!(foreign, format!("{}: file is not a database", path.display()));

        std::fs::remove_file(&path).unwrap();
        drop(SqliteStore::open(dir.path(), 9).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        let newer = SqliteStore::open(dir.path(), 9).unwrap_err().to_string();
        assert!(newer.contains("has schema 9, and this program knows 1"), "{newer}");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", MIGRATIONS.len()).unwrap();

        let store = SqliteStore::open(dir.path(), 9).unwrap();
        store.put(&job(dir.path(), "a", ""), vec![]).unwrap();
        Connection::open(&path).unwrap().execute("UPDATE jobs SET state = 'odd'", []).unwrap();
        let odd = store.jobs().unwrap_err().to_string();
        assert_eq!(odd, format!("{}: job a: `odd` is no state", path.display()));
    }
}
