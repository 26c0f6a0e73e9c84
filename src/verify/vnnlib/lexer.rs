//! Brackets, atoms and their places.

/// A token. Atoms borrow the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// `(`
    Open,
    /// `)`
    Close,
    /// A name, number or operator.
    Atom(&'a str),
    /// `"text"` or `|text|`, which only commands that are skipped contain.
    Quoted,
    /// End of the text.
    End,
}

/// Cuts a text into tokens. Places are byte offsets; [`place`] turns one into line and column when an error needs it.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    peeked: Option<(Token<'a>, usize)>,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`, after its byte order mark if there is one.
    pub(super) fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, peeked: None }
    }

    /// Line and column of a byte offset of this text.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        place(self.text, offset)
    }

    /// The next token and its offset, without taking it.
    pub(super) fn peek(&mut self) -> (Token<'a>, usize) {
        let token = self.next();
        self.peeked = Some(token);
        token
    }

    /// Takes the next token and its offset. At the end it returns [`Token::End`] for ever.
    pub(super) fn next(&mut self) -> (Token<'a>, usize) {
        if let Some(token) = self.peeked.take() {
            return token;
        }
        let bytes = self.text.as_bytes();
        self.skip_blanks(bytes);
        let start = self.at;
        let Some(&first) = bytes.get(start) else {
            return (Token::End, start);
        };
        let token = match first {
            b'(' => Token::Open,
            b')' => Token::Close,
            b'"' | b'|' => {
                let length = bytes[start + 1..].iter().position(|&b| b == first);
                self.at = length.map_or(bytes.len(), |n| start + n + 2);
                return (Token::Quoted, start);
            }
            _ => {
                let length = bytes[start..].iter().position(|&b| ends_atom(b)).unwrap_or(bytes.len() - start);
                self.at = start + length;
                // Both ends lie beside an ASCII byte or an end of the text, so this is a character boundary.
                return (Token::Atom(self.text.get(start..self.at).unwrap_or_default()), start);
            }
        };
        self.at = start + 1;
        (token, start)
    }

    /// Moves past white space and comments.
    fn skip_blanks(&mut self, bytes: &[u8]) {
        while let Some(&byte) = bytes.get(self.at) {
            if byte == b';' {
                let rest = &bytes[self.at..];
                self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            } else if is_blank(byte) {
                self.at += 1;
            } else {
                break;
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn ends_atom(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'(' | b')' | b';' | b'"' | b'|')
}

/// Line and column, both from 1, of a byte offset; the column counts characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let bytes = &text.as_bytes()[..offset.min(text.len())];
    let line = 1 + bytes.iter().filter(|&&b| b == b'\n').count();
    let start = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
    // A character has one byte that is not a continuation byte (10xxxxxx). A byte order mark has no width.
    let line_bytes = &bytes[start..];
    let line_bytes = line_bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line_bytes);
    let column = 1 + line_bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count();
    (line, column)
}

/// A piece of the user's text as it is put into a message: in backticks, control characters escaped, cut at 40 characters.
pub(super) fn quoted(atom: &str) -> String {
    let mut shown: String = atom.chars().take(40).flat_map(char::escape_debug).collect();
    if atom.chars().nth(40).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}
