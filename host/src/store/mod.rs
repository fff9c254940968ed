//! SQLite, concrete, no trait. SQL text appears nowhere else.

pub mod read;

pub use read::Reader;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}
