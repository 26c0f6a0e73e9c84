//! The one error type of the crate: a stable code, a sentence, the place in the user's file, and the next step.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong. Codes are stable; new kinds may be added.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No adapter that fits the request.
    NoAdapter,
    /// The adapter cannot do what the plan needs (feature or limit).
    Limit,
    /// A tensor or plan that can never fit this device or budget.
    TooBig,
    /// The device has no memory for it now; freeing some or retrying is reasonable.
    OutOfMemory,
    /// The device was lost; rebuild the engine from host state.
    DeviceLost,
    /// A kernel did not compile or failed validation: a bug of ours or of the driver.
    Shader,
    /// A file or argument is malformed.
    BadInput,
    /// A well-formed network or property that uses something not supported yet.
    Unsupported,
    /// A proof that does not establish its claim.
    BadProof,
    /// Reading or writing a file failed.
    Io,
    /// Stopped by a cancel token.
    Cancelled,
    /// A broken invariant of this crate.
    Internal,
}

impl ErrorKind {
    /// The stable code, as printed in `error[E0101]`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoAdapter => "E0101",
            Self::Limit => "E0102",
            Self::TooBig => "E0103",
            Self::OutOfMemory => "E0104",
            Self::DeviceLost => "E0105",
            Self::Shader => "E0106",
            Self::BadInput => "E0201",
            Self::Unsupported => "E0202",
            Self::BadProof => "E0203",
            Self::Io => "E0301",
            Self::Cancelled => "E0401",
            Self::Internal => "E0901",
        }
    }
}

/// Where in a user's file an error was found. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Line and column, where the format has lines.
    pub position: Option<(usize, usize)>,
}

/// An error with its code, place and next step.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind with a one-sentence message (no trailing full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: None, help: None, source: None }
    }

    /// Malformed input.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    /// Well-formed input that is not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A broken invariant of this crate.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
            .with_help("this is a bug in wavehull; please report it with the output of `wavehull doctor --json`")
    }

    /// An I/O failure on a file.
    pub fn io(file: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, source.to_string()).in_file(file).with_source(source)
    }

    /// Adds the file, keeping a position that is already known.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        let position = self.place.take().and_then(|p| p.position);
        self.place = Some(Place { file: file.to_owned(), position });
        self
    }

    /// Adds line and column (from 1), keeping a file that is already known.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        let file = self.place.take().map(|p| p.file).unwrap_or_default();
        self.place = Some(Place { file, position: Some((line, column)) });
        self
    }

    /// Adds the next step for the user, printed as `help: ...`.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the underlying cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without code, place and help.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place in the user's file, if there is one.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The next step, if there is one.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}
