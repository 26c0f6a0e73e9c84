//! Commands, conditions and expressions.

use super::assemble::{Assembler, Choice, Conjunct, Groups, MAX_INTERVALS};
use super::condition::{Relation, add_bound, add_linear};
use super::fault::{Fault, no_conditions, unexpected, unknown_arithmetic, unknown_condition};
use super::lexer::{Lexer, Token, quoted};
use super::linear::{Operand, Variable};
use super::names::{Declared, NAME_HELP, not_a_number, variable};
use super::number::Number;
use crate::error::{Error, Result};
use crate::verify::property::Property;

/// Deepest nesting of brackets. The parser recurses; this keeps it within a small thread's stack.
const MAX_DEPTH: usize = 256;

const ASSERT_HELP: &str =
    "a file consists of `(declare-const X_0 Real)`, `(declare-const Y_0 Real)` and `(assert ...)`";

/// A recursive descent over the text; brackets nest at most [`MAX_DEPTH`] deep.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Offsets of the brackets that are open.
    opens: Vec<usize>,
    inputs: Declared,
    outputs: Declared,
    groups: Groups,
    output_asserted: bool,
    /// Most input intervals of all boxes together.
    pub(super) max_intervals: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lexer: Lexer::new(text),
            opens: Vec::new(),
            inputs: Declared::default(),
            outputs: Declared::default(),
            groups: Groups::default(),
            output_asserted: false,
            max_intervals: MAX_INTERVALS,
        }
    }

    /// Parses the whole text.
    pub(super) fn run(mut self) -> Result<Property> {
        match self.file() {
            Ok(property) => Ok(property),
            Err(fault) => Err(fault.placed(|at| self.lexer.place(at))),
        }
    }

    fn file(&mut self) -> Result<Property, Fault> {
        let mut all = Conjunct::default();
        loop {
            match self.lexer.next() {
                (Token::End, at) => return self.finish(all, at),
                (Token::Open, at) => {
                    self.enter(at)?;
                    self.command(&mut all)?;
                }
                (Token::Close, at) => {
                    let help = "remove it, or look before it for a `)` too many";
                    return Err(Fault::new(at, Error::bad_input("this `)` closes nothing"), help));
                }
                (token, at) => {
                    return Err(unexpected(token, at, "a command such as `(assert ...)`", ASSERT_HELP));
                }
            }
        }
    }

    fn finish(&mut self, all: Conjunct, end: usize) -> Result<Property, Fault> {
        self.inputs.check('X')?;
        self.outputs.check('Y')?;
        let none = |what: &str, name: &str| {
            let error = Error::bad_input(format!("the file declares no {what}"));
            Err(Fault::new(end, error, format!("add `(declare-const {name} Real)`")))
        };
        if self.inputs.run.is_empty() {
            return none("input", "X_0");
        }
        let Some(&first_output) = self.outputs.run.first() else {
            return none("output", "Y_0");
        };
        if !self.output_asserted {
            let error = Error::bad_input("no assertion speaks of an output");
            let help = "add the condition that makes an output a counterexample, for example `(assert (<= Y_0 0))`";
            return Err(Fault::new(first_output, error, help));
        }
        let queries = Assembler::run(all, &self.groups, &self.inputs.run, self.max_intervals)?;
        Ok(Property { inputs: self.inputs.run.len(), outputs: self.outputs.run.len(), queries })
    }

    // Brackets.

    fn enter(&mut self, at: usize) -> Result<(), Fault> {
        if self.opens.len() >= MAX_DEPTH {
            let error = Error::unsupported(format!("brackets nest deeper than {MAX_DEPTH}"));
            return Err(Fault::new(at, error, "`and`, `or`, `+` and `*` take any number of operands: write them flat"));
        }
        self.opens.push(at);
        Ok(())
    }

    /// Takes the closing bracket of the innermost list, which must come next.
    fn leave(&mut self, expected: &str, help: &str) -> Result<(), Fault> {
        match self.lexer.next() {
            (Token::Close, _) => {
                self.opens.pop();
                Ok(())
            }
            (Token::End, at) => Err(self.unclosed(at)),
            (token, at) => Err(unexpected(token, at, expected, help)),
        }
    }

    /// True (and the bracket taken) if the innermost list ends here.
    fn ends(&mut self) -> bool {
        let ends = self.lexer.peek().0 == Token::Close;
        if ends {
            self.lexer.next();
            self.opens.pop();
        }
        ends
    }

    fn unclosed(&self, end: usize) -> Fault {
        let at = self.opens.last().copied().unwrap_or(end);
        Fault::new(at, Error::bad_input("this `(` is never closed"), "add the missing `)`")
    }

    /// The atom that a list starts with.
    fn atom(&mut self, expected: &str, help: &str) -> Result<(&'a str, usize), Fault> {
        match self.lexer.next() {
            (Token::Atom(atom), at) => Ok((atom, at)),
            (Token::End, at) => Err(self.unclosed(at)),
            (token, at) => Err(unexpected(token, at, expected, help)),
        }
    }

    // Commands.

    fn command(&mut self, all: &mut Conjunct) -> Result<(), Fault> {
        let (head, at) = self.atom("a command", ASSERT_HELP)?;
        match head {
            "assert" => {
                self.condition(all)?;
                self.leave(
                    "`)`: `assert` takes one condition",
                    "join several conditions by `(and ...)`, or write several asserts",
                )
            }
            "declare-const" => self.declare(false),
            "declare-fun" => self.declare(true),
            "set-logic" | "set-info" | "set-option" | "check-sat" | "get-model" | "exit" => self.skip(),
            "vnnlib-version" | "declare-network" => {
                let error =
                    Error::unsupported(format!("{} belongs to VNN-LIB 2.0, which is not read yet", quoted(head)));
                Err(Fault::new(at, error, "use the VNN-LIB 1.0 form of the property (`declare-const X_0 Real`)"))
            }
            _ => Err(Fault::new(at, Error::bad_input(format!("unknown command {}", quoted(head))), ASSERT_HELP)),
        }
    }

    fn declare(&mut self, function: bool) -> Result<(), Fault> {
        let (name, at) = self.atom("a name such as X_0", NAME_HELP)?;
        let variable = variable(name, at)?;
        if function {
            let help = "declare a constant: `(declare-const X_0 Real)`";
            match self.lexer.next() {
                (Token::Open, at) => self.enter(at)?,
                (Token::End, at) => return Err(self.unclosed(at)),
                (token, at) => return Err(unexpected(token, at, "`()`", help)),
            }
            self.leave("`)`: a variable has no arguments", help)?;
        }
        let help = "the sort of every variable is Real";
        let (sort, sort_at) = self.atom("`Real`", help)?;
        if sort != "Real" {
            return Err(unexpected(Token::Atom(sort), sort_at, "`Real`", help));
        }
        self.leave("`)`", "a declaration is a name and the sort Real")?;
        let added = match variable {
            Variable::Input(index) => self.inputs.add(index, at),
            Variable::Output(index) => self.outputs.add(index, at),
        };
        if added {
            return Ok(());
        }
        Err(Fault::new(at, Error::bad_input(format!("{name} is declared twice")), "remove one of the declarations"))
    }

    /// Skips the rest of a command, brackets inside it included, without recursion.
    fn skip(&mut self) -> Result<(), Fault> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.lexer.next() {
                (Token::Open, _) => depth += 1,
                (Token::Close, _) => depth -= 1,
                (Token::End, at) => return Err(self.unclosed(at)),
                _ => {}
            }
        }
        self.opens.pop();
        Ok(())
    }

    // Conditions.

    /// Parses one condition and adds it to a conjunction.
    fn condition(&mut self, into: &mut Conjunct) -> Result<(), Fault> {
        const HELP: &str = "a condition is a comparison, `(and ...)` or `(or ...)`";
        const EXPECTED: &str = "a condition such as `(<= Y_0 Y_1)`";
        let at = match self.lexer.next() {
            (Token::Open, at) => at,
            (Token::End, at) => return Err(self.unclosed(at)),
            (token, at) => return Err(unexpected(token, at, EXPECTED, HELP)),
        };
        self.enter(at)?;
        let (head, head_at) = self.atom("`<=`, `>=`, `<`, `>`, `=`, `and` or `or`", HELP)?;
        match head {
            "and" => self.conjunction(at, into),
            "or" => self.disjunction(at, into),
            _ => match Relation::of(head) {
                Some(relation) => self.comparison(head, relation, at, into),
                None => Err(unknown_condition(head, head_at)),
            },
        }
    }

    fn conjunction(&mut self, at: usize, into: &mut Conjunct) -> Result<(), Fault> {
        if self.ends() {
            return Err(no_conditions("and", at));
        }
        while !self.ends() {
            self.condition(into)?;
        }
        Ok(())
    }

    fn disjunction(&mut self, at: usize, into: &mut Conjunct) -> Result<(), Fault> {
        let mut terms = Vec::new();
        while !self.ends() {
            let group_at = self.lexer.peek().1;
            let mut group = Conjunct::default();
            self.condition(&mut group)?;
            let mut closed = self.groups.close(group, group_at)?;
            if terms.is_empty() {
                terms = closed;
            } else {
                terms.append(&mut closed);
            }
        }
        if terms.is_empty() {
            return Err(no_conditions("or", at));
        }
        into.choices.push(Choice { at, terms });
        Ok(())
    }

    fn comparison(&mut self, head: &str, relation: Relation, at: usize, into: &mut Conjunct) -> Result<(), Fault> {
        let left = self.side(head, at)?;
        let right = self.side(head, at)?;
        self.leave("`)`: a comparison takes two operands", "write one comparison for each pair")?;
        match (&left, &right) {
            (&Operand::Variable(Variable::Input(index)), &Operand::Number(bound)) => {
                add_bound(into, index, relation, bound, at)
            }
            (&Operand::Number(bound), &Operand::Variable(Variable::Input(index))) => {
                add_bound(into, index, relation.mirrored(), bound, at)
            }
            _ => add_linear(into, relation, &left.plus(right.negated()).collected(), at),
        }
    }

    /// One side of a comparison.
    fn side(&mut self, head: &str, at: usize) -> Result<Operand, Fault> {
        if self.lexer.peek().0 == Token::Close {
            let error = Error::bad_input(format!("`{head}` takes two operands"));
            return Err(Fault::new(at, error, format!("write it like `({head} Y_0 Y_1)` or `({head} X_0 0.5)`")));
        }
        self.operand()
    }

    // Expressions.

    fn operand(&mut self) -> Result<Operand, Fault> {
        match self.lexer.next() {
            (Token::Atom(atom), at) => self.leaf(atom, at),
            (Token::Open, at) => {
                self.enter(at)?;
                self.arithmetic(at)
            }
            (Token::End, at) => Err(self.unclosed(at)),
            (token, at) => Err(unexpected(token, at, "a number, a variable or a sum", "write it like `(<= Y_0 1.5)`")),
        }
    }

    /// A number or a declared variable.
    fn leaf(&mut self, atom: &str, at: usize) -> Result<Operand, Fault> {
        if let Some(number) = Number::parse(atom) {
            if number.is_finite() {
                return Ok(Operand::Number(number));
            }
            let error = Error::bad_input(format!("{} is beyond the range of f64 (1.8e308)", quoted(atom)));
            return Err(Fault::new(at, error, "leave the bound out, or choose one that the network can reach"));
        }
        if let Some(error) = not_a_number(atom) {
            return Err(Fault::new(at, error, "write numbers as decimals, such as -1.5 or 2e-3"));
        }
        let variable = variable(atom, at)?;
        let (declared, letter, index) = match variable {
            Variable::Input(index) => (&self.inputs, 'X', index),
            Variable::Output(index) => (&self.outputs, 'Y', index),
        };
        self.output_asserted |= letter == 'Y';
        if (index as usize) < declared.run.len() {
            return Ok(Operand::Variable(variable));
        }
        if declared.early.contains_key(&index) {
            declared.check(letter)?;
        }
        let error = Error::bad_input(format!("{} is not declared", quoted(atom)));
        let help = match declared.run.len() {
            0 => format!("declare it before its first use: `(declare-const {atom} Real)`"),
            n => format!("{letter}_0 to {letter}_{} are declared; declare others before their first use", n - 1),
        };
        Err(Fault::new(at, error, help))
    }

    /// The rest of `(+ ...)`, `(- ...)` or `(* ...)`.
    fn arithmetic(&mut self, at: usize) -> Result<Operand, Fault> {
        const HELP: &str = "an expression is a number, a variable, or a list such as `(+ Y_0 (* 2 Y_1))`";
        let (head, head_at) = self.atom("`+`, `-` or `*`", HELP)?;
        if !matches!(head, "+" | "-" | "*") {
            return Err(unknown_arithmetic(head, head_at, HELP));
        }
        if self.ends() {
            let error = Error::bad_input(format!("`{head}` has no operands"));
            return Err(Fault::new(at, error, HELP));
        }
        let mut result = self.operand()?;
        if self.ends() {
            return Ok(if head == "-" { result.negated() } else { result });
        }
        while !self.ends() {
            let operand = self.operand()?;
            result = match head {
                "+" => result.plus(operand),
                "-" => result.plus(operand.negated()),
                _ => result.times(operand).ok_or_else(|| {
                    let error = Error::unsupported("this product of two variables is not linear");
                    Fault::new(at, error, "at most one factor of a product may contain variables")
                })?,
            };
        }
        Ok(result)
    }
}
