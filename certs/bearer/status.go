package bearer

import "time"

// Status describes the keys of one issuer.
type Status struct {
	Issuer  string
	Keys    int           // 0: never had any
	Fetched time.Time     // when they were last confirmed; zero: never
	Until   time.Time     // when they stop being served unless a fetch succeeds; zero: keys of a file, or none
	Stale   bool          // older than the TTL: served on grace, or no longer
	Usable  bool          // tokens of this issuer can be judged
	Fault   string        // the last load's error; "" after a success
	Skew    time.Duration // how far this clock is ahead of the issuer's, in whole seconds; 0 where it does not say
}

func (i *issuer) status(now time.Time) Status {
	st := Status{Issuer: i.conf.URL}
	if s := i.snapshot.Load(); s != nil {
		st.Keys, st.Fetched = len(s.keys.keys), s.at
		if i.remote {
			st.Stale, st.Until = now.Sub(s.at) > i.ttl, s.at.Add(i.ttl+i.grace)
		}
	}
	_, err := i.usable(now)
	st.Usable = err == nil
	i.mu.Lock()
	st.Fault, st.Skew = i.fault, i.skew
	i.mu.Unlock()
	return st
}
