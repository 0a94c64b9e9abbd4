//! Protections that tests switch off, to see that somebody notices.
//!
//! Guarantee: without the feature `faults`, [`on`] is always false and costs nothing.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of two contents under one id, the smaller wins.
    OneWinnerPerId,
    /// Of two contents under one id, the last wins.
    LastWins,
    /// Nearness places an event until its parent arrives.
    NearUntilResolved,
    /// Sessions join subjects.
    SessionWithoutSubject,
    /// Traces join subjects.
    TraceWithoutSubject,
    /// Spans join subjects.
    SpanWithoutSubject,
    /// Events are ordered as they arrived.
    OrderOfArrival,
    /// Nobody is somebody.
    NobodyIsSomebody,
    /// An event may be its own parent.
    OwnParent,
    /// An event whose ring was cut takes its next candidate, unchecked.
    SecondChoice,
    /// Rings are left as they are, as far as that ends.
    RingCutAnywhere,
    /// Attempts of two callers fold.
    FoldAcrossCallers,
    /// Another root's path is inherited.
    InheritAnyRoot,
    /// Secondary parents are not checked for cycles.
    JoinsUnchecked,
    /// Witnesses of one family count each.
    WitnessesAdd,
    /// Only the event before is a neighbour.
    OnlyTheEventBefore,
    /// Ids that were given up are forgotten.
    AliasesForgotten,
    /// Keys of evicted chains are forgotten.
    SleepersForgotten,
    /// What is unknown is outside.
    UnknownIsOut,
    /// Grants hold before they begin.
    GrantsAlwaysHold,
    /// Re-authorizations hold before they are given.
    ReauthBeforeItsTime,
    /// Actors approve for themselves.
    SelfApproval,
    /// Changed records are not marked.
    MutationUnmarked,
    /// Chains are told apart without their neighbours in time.
    NeighboursApart,
    /// Of two exchanges of one token that differ, the last counts.
    LastExchangeWins,
    /// A record touches the grant that it names, and none that was derived from it.
    DerivedForgotten,
    /// Newer facts are laid over chains as if they touched none.
    CoveredForgotten,
    /// Chains that rest on who showed a token first stay as they were when that changes.
    BearersForgotten,
    /// Some chains are judged without those who showed exchanged tokens in others.
    WitnessesForgotten,
}

#[cfg(feature = "faults")]
thread_local! {
    static FAULT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether a rule is broken in this thread.
#[cfg(feature = "faults")]
pub(crate) fn on(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}

/// Whether a rule is broken: never.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) const fn on(_: Fault) -> bool {
    false
}

/// Breaks a rule in this thread while something runs.
#[cfg(feature = "faults")]
pub fn with<R>(fault: Fault, run: impl FnOnce() -> R) -> R {
    /// Mends the rule when the test ends, or panics.
    struct Mend;
    impl Drop for Mend {
        fn drop(&mut self) {
            FAULT.set(None);
        }
    }
    FAULT.set(Some(fault));
    let _mend = Mend;
    run()
}
