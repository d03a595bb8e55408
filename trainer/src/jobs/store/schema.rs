//! The database's schema, step by step, and how one is brought up to date.

use super::StoreError;
use rusqlite::Connection;
use std::path::Path;

/// Statements that lead from each version to the next; the version of a new file is 0. A step that was released is never changed.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("001.sql")];

/// Applies the steps that `connection` lacks, each whole or not at all.
///
/// # Errors
/// The file is newer than `steps`, damaged, or a step fails.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str], path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Sqlite { path: path.into(), source };
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > steps.len() {
        return Err(StoreError::Newer { path: path.into(), found, known: steps.len() });
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.into(), problem: verdict });
    }
    for (i, step) in steps.iter().enumerate().skip(found) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(step).map_err(failed)?;
        transaction.pragma_update(None, "user_version", i + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> usize {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_file_is_brought_up_to_date_once_and_a_failed_step_leaves_it_as_it_was() {
        let mut db = Connection::open_in_memory().unwrap();
        let path = Path::new("jobs.sqlite3");
        let (first, second) = ("CREATE TABLE a (x INTEGER) STRICT;", "ALTER TABLE a ADD COLUMN y TEXT;");
        migrate(&mut db, &[first], path).unwrap();
        db.execute("INSERT INTO a (x) VALUES (7)", []).unwrap();
        let broken = "ALTER TABLE a ADD COLUMN y TEXT; CREATE TABLE a (z INTEGER);";
        assert!(migrate(&mut db, &[first, broken], path).is_err());
        assert_eq!(version(&db), 1);
        migrate(&mut db, &[first, second], path).unwrap();
        migrate(&mut db, &[first, second], path).unwrap();
        let row: (i64, Option<String>) =
            db.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!((row, version(&db)), ((7, None), 2));
        let newer = migrate(&mut db, &[first], path).unwrap_err().to_string();
        assert_eq!(
            newer,
            "jobs.sqlite3: has schema 2, and this program knows 1: run the program that wrote it, or a newer one"
        );
    }
}
