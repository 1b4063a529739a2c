// SPDX-License-Identifier: MIT
/*
 * The register pair that the command register replaces: requests in
 * host2guest_cmd with an id beside it, and the guest's word that it has no more
 * in guest2host_cmd. Id and pages go through the queue, the end does not, so
 * nothing orders it against them.
 *
 * The host waits for the guest's STOP and takes it for what it says: it goes
 * on, and what is still in the queue counts as it comes. A page gets lost.
 * With -DCLOSE_AT_STOP it closes the report as a host of the other protocols
 * does, and waits for nothing. No page is lost then, but what was handed over
 * before STOP does not count (-DEXPECT_ALL_COUNTED), and a late STOP ends the
 * report after the one it was for (-DEXPECT_OWN_STOP).
 */
#ifndef PAGES
#define PAGES 1
#endif
#ifndef SLOTS
#define SLOTS 3 /* of the ring: id, page, and one more */
#endif

/* What a buffer is: a page's bit, or */
#define ID 4

mtype = { IDLE, REQUESTED, ACCEPTING, COMPLETE, CLOSED };

/* Registers. An id in `request` is START with that id, 0 is STOP. */
unsigned request : 3;
bit interrupt;

/* The device. */
mtype state = IDLE;
unsigned id : 3;
unsigned taken : 3;

/* The queue: what the device has not popped, and the id. */
chan available = [SLOTS] of { byte, byte };
#ifdef EXPECT_ALL_COUNTED
unsigned due : 3; /* pages handed over for `id` that did not count yet */
#define SET_DUE(value) due = value
#else
#define due 0
#define SET_DUE(value) skip
#endif
bit heard; /* the guest's STOP came since the last START */

/* The driver. */
bit handling;
unsigned config_id : 3, reading : 3, active_id : 3;
bit open, exhausted, choosing;

#define ROOM (SLOTS - len(available) - taken)
#define QUIET (taken == 0)
/* Only a host that closes can do without the guest's answer. */
#ifndef CLOSE_AT_STOP
#define PATIENT
#endif
#define UNANSWERED (lent && !heard)
#define MAY_PAUSE true

inline set_request(value)
{
	if
	:: request != value -> request = value; interrupt = 1
	:: else
	fi
}

/* Ids are only compared, so one that nobody remembers is as good as one that
 * never was. */
#define NOBODYS(n) (request != n && config_id != n && reading != n && \
		    active_id != n && id != n && !(available??[ID,n]))

inline next_id()
{
	if
	:: NOBODYS(2) -> id = 2
	:: !NOBODYS(2) && NOBODYS(3) -> id = 3
	:: !NOBODYS(2) && !NOBODYS(3) && NOBODYS(4) -> id = 4
	:: !NOBODYS(2) && !NOBODYS(3) && !NOBODYS(4) && NOBODYS(5) -> id = 5
	:: !NOBODYS(2) && !NOBODYS(3) && !NOBODYS(4) && !NOBODYS(5) &&
	   NOBODYS(6) -> id = 6
	:: else -> /* there is an id that nobody remembers */
		   assert(NOBODYS(7));
		   id = 7
	fi
}

inline report_start()
{
	next_id();
	SET_DUE(0);
	heard = 0;
	lent = 1;
	state = REQUESTED;
	set_request(id)
}

inline report_close()
{
	if
	:: !lent
	:: else ->
		lent = 0;
		heard = 0;
#ifdef CLOSE_AT_STOP
		state = CLOSED;
		id = 0;
#endif
		set_request(0)
	fi
}

/* The host says STOP. */
inline report_pause()
{
	set_request(0)
}

inline report_done()
{
	skip /* pages are not held: any may be used at any moment */
}

inline arrive()
{
	interrupt = 1;
	state = IDLE
}

#include "memory.pml"

/* guest2host_cmd = STOP: the device hears it at once. */
inline hear_stop(ends)
{
#ifdef CLOSE_AT_STOP
	if
	:: state == REQUESTED || state == ACCEPTING ->
#ifdef EXPECT_OWN_STOP
		assert(ends == id); /* a STOP ends its own report */
#endif
#ifdef EXPECT_ALL_COUNTED
		/* what was handed over before STOP counts */
		assert(ends != id || due == 0);
#endif
		state = COMPLETE
	:: else
	fi
#endif
	heard = (lent -> 1 : 0)
}

active proctype device()
{
	byte what, word;

	do
	:: atomic { available?what,word ->
		taken++;
		if
		:: what == ID && state == REQUESTED && word == id ->
			state = ACCEPTING
		:: what == ID && state == ACCEPTING -> state = COMPLETE
		:: what == ID && state != REQUESTED && state != ACCEPTING
		:: what == ID && state == REQUESTED && word != id
		:: what != ID && state == ACCEPTING ->
			count_hint(what);
			SET_DUE((due > 0 -> due - 1 : 0))
		:: what != ID && state != ACCEPTING
		fi;
		what = 0;
		word = 0 }
	:: atomic { taken != 0 -> taken = 0 }
	od
}

/* What nobody looks at again is forgotten. */
#define FORGET_ACTIVE active_id = (open || config_id == active_id || \
				   request == active_id -> active_id : 0)

active proctype handler()
{
	do
	:: atomic { interrupt ->
		    interrupt = 0; handling = 1; reading = request };
	   atomic { config_id = reading; reading = 0; handling = 0;
		    FORGET_ACTIVE }
	od
}

/* The free lists are walked; nothing is taken out of them. */
inline send_block(page)
{
	if
	:: ROOM > 1 ->
		available!page,0;
		SET_DUE((lent && active_id == id && due < 7 -> due + 1 : due))
	:: true -> exhausted = 1
	fi
}

active proctype worker()
{
	do
	:: atomic { open && (config_id != active_id || exhausted) ->
		    hear_stop(active_id); open = 0; exhausted = 0;
		    FORGET_ACTIVE }
	:: atomic { open && config_id == active_id && !exhausted ->
		    choosing = 1 };
	   atomic { choosing = 0;
		if
		:: !(used & 1) -> send_block(1)
#if PAGES > 1
		:: !(used & 2) -> send_block(2)
#endif
		:: used == ALL -> exhausted = 1
		fi }
	:: atomic { !open && config_id > 1 && config_id != active_id &&
		    ROOM > 1 ->
		    open = 1; active_id = config_id; available!ID,active_id }
	od
}
