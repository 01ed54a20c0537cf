//! A piece of work that can be done again and again, each time on an input of its own.

/// The work once, ready to be done: what it needs is made, and what it leaves is dropped with it, not within it.
pub type Work = Box<dyn FnMut()>;

/// Makes the work ready, as often as it is to be done.
pub type Maker = Box<dyn Fn() -> Work>;

/// A piece of work with a name.
pub struct Case {
    /// `part/what-is-there`.
    pub name: &'static str,
    begin: Box<dyn Fn() -> Maker>,
}

impl Case {
    /// `run` does it. `build` makes what all runs share, and the input, of which each run has a copy of its own.
    pub fn new<T: 'static, I: Clone + 'static, O: 'static>(
        name: &'static str,
        build: impl Fn() -> (T, I) + 'static,
        run: fn(&T, I) -> O,
    ) -> Self {
        let begin = move || {
            let (things, input) = build();
            let things = std::rc::Rc::new(things);
            let make = move || {
                let (things, mut input, mut left) =
                    (things.clone(), Some(input.clone()), Vec::with_capacity(1));
                let work = move || left.push(run(&things, input.take().expect("it is done once")));
                Box::new(work) as Work
            };
            Box::new(make) as Maker
        };
        Self { name, begin: Box::new(begin) }
    }

    /// Makes what all runs share.
    pub fn begin(&self) -> Maker {
        (self.begin)()
    }
}
