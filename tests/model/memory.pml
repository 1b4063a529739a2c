// SPDX-License-Identifier: MIT
/*
 * What the models share: a few pages, the guest's allocator, a dirty log, and
 * the migration that asks for a report, sends, and stops the guest.
 *
 * A set of pages is a word with a bit for each. Of a page's content only this
 * counts: has the destination the version that the guest wrote last? So a write
 * clears the page's bit in `same`, and sending sets it; versions need no number
 * and no bound.
 *
 * A model defines before it includes this file: PAGES, and as inlines
 *	report_start()	ask for a report; `lent` is set if one was asked for
 *	report_pause()	the user stops and resumes the guest
 *	report_close()	hints no longer count; `lent` is cleared
 *	report_done()	the guest may have its pages back
 *	arrive()	the device's state goes on at the destination
 *	QUIET		nothing is half done on the device's thread
 *	UNANSWERED	a report was asked for, and nothing came yet
 */

/* What else must hold, beside that no page gets lost. */
#ifdef PAGES_ONLY
#define claim(that) skip
#else
#define claim(that) assert(that)
#endif

/* A host that waits for an answer shows whether there will be one. */
#ifdef PATIENT
#define MAY_GO_ON (!UNANSWERED)
#else
#define MAY_GO_ON true
#endif
#ifndef MAY_PAUSE
#define MAY_PAUSE MAY_GO_ON
#endif

#define ALL ((1 << PAGES) - 1)

/* The guest's. What is in neither set is free. */
unsigned used : PAGES = ALL; /* in use: written since it was freed */
unsigned held : PAGES;	     /* handed over to the device, not given back */

bit lent; /* a report was asked for, and not closed */

#ifndef BARE
unsigned same : PAGES;	  /* the destination has the last version */
unsigned written : PAGES; /* the dirty log */
unsigned got : PAGES;	  /* read from the log, and not cleared in it yet */
unsigned to_send : PAGES;
unsigned hinted : PAGES;
bit armed;
bit unlogged; /* the log was taken off for the time of a report */
#endif

#ifdef BARE /* the content of memory steers nothing, and is left out */
#define free_page(page) used = used & ~(page)
#define write_page(page) used = used | (page); held = held & ~(page)
#define count_hint(page) skip
#define arm() skip
#define take_out_hints() skip
#define forget_move() skip
#define last_round() skip
#else
inline free_page(page)
{
	used = used & ~page;
	same = same & ~page
}

inline write_page(page)
{
	used = used | page;
	held = held & ~page;
	same = same & ~page;
	if
	:: armed -> written = written | page
	:: else
	fi
}

/* R2: a hint adds to the set, and does nothing else. */
inline count_hint(page)
{
	hinted = hinted | page;
#ifdef BUG_HINT_CLEARS_LOG
	written = written & ~page;
#endif
}

/* From here on each write is logged, and all that is there is to be sent. */
inline arm()
{
	armed = 1;
	written = 0;
	to_send = ALL
}

inline take_out_hints()
{
	if
	:: unlogged -> /* the report was waited for, and no more */
#ifndef BUG_UNLOGGED_COUNTS
		hinted = 0
#endif
	:: else ->
		to_send = to_send & ~hinted;
		hinted = 0
	fi
}

inline forget_move()
{
	armed = 0;
	unlogged = 0;
	written = 0;
	to_send = 0;
	hinted = 0;
	same = 0
}

/* The guest stands still: the rest goes over. All that is in use has arrived in
 * its last version, or the guest is damaged. */
inline last_round()
{
	to_send = to_send | written;
	same = same | (to_send & used);
	assert((used & ~same) == 0) /* no page in use is missing */
}
#endif

/*
 * Migration: any number of moves, each with any number of reports and syncs.
 * It waits for nothing: each step may come as soon as the one before is done.
 */
active proctype migration()
{
idle:
#ifdef BUG_ARM_AFTER_PUBLISH
	atomic { report_start() }
#endif
	atomic { arm() };
rounds:
	do
	:: atomic { !lent -> report_start() }
	:: atomic { lent && MAY_PAUSE -> report_pause() }
#ifndef BARE
	/* The sender passes over what is hinted meanwhile. */
	:: atomic { (to_send & ~hinted & 1) != 0 ->
		    to_send = to_send & ~1; same = same | (used & 1) }
#if PAGES > 1
	:: atomic { (to_send & ~hinted & 2) != 0 ->
		    to_send = to_send & ~2; same = same | (used & 2) }
#endif
#ifdef ZEROING
	/* A guest that zeroes what it hints: the log comes off, and is armed
	 * anew when the report is over; none of its hints is used. */
	:: atomic { lent && !unlogged -> unlogged = 1; armed = 0; written = 0 }
#endif
#endif
	/* Close, take out, and sync: the log is read and then cleared. */
	:: atomic { MAY_GO_ON -> report_close();
		    take_out_hints();
#ifndef BARE
		    if
		    :: unlogged -> unlogged = 0; arm()
		    :: else -> got = written
		    fi
#endif
	   };
#ifndef BARE
#ifdef BUG_START_BETWEEN_GET_AND_CLEAR
	   if
	   :: atomic { report_start() }
	   :: true
	   fi;
#endif
	   atomic { written = written & ~got;
		    to_send = to_send | got;
		    got = 0 }
#endif
	:: MAY_GO_ON -> break
	od;
	if
	/* Cancelled, or failed: the guest lives on here. */
	:: atomic { true -> report_close();
		    report_done();
		    forget_move() }
	/* Stopped between two drains of the queue; then the last log. What
	 * follows is one step, since nothing else moves. */
	:: atomic { QUIET -> report_close();
		    take_out_hints();
#ifndef BARE
		    if
		    :: unlogged -> to_send = ALL
		    :: else
		    fi;
#endif
		    last_round();
		    if
		    :: arrive()
		    :: true /* the hand-over failed */
		    fi;
		    report_done();
		    forget_move() }
	fi;
	goto idle
}

/* Frees a page; takes a free one, or takes one back early, and writes it; or
 * writes one that is in use. */
active proctype allocator()
{
	do
#ifdef LIVE
	:: used <= ALL /* idles: nothing comes about by its doing alone */
#endif
	:: atomic { used & 1 -> free_page(1) }
	:: atomic { write_page(1) }
#if PAGES > 1
	:: atomic { used & 2 -> free_page(2) }
	:: atomic { write_page(2) }
#endif
	od
}
