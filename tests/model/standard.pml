// SPDX-License-Identifier: MIT
/*
 * Free page hinting of VIRTIO 1.3 section 5.5.6.6: the host writes an id, STOP
 * or DONE into free_page_hint_cmd_id, and the guest answers in the queue. V and
 * R numbers are those of docs/conformance.md; README.md says what stands for
 * what.
 *
 * -DTARGETS adds balloon requests. -DBARE leaves out the content of memory.
 * -DLIVE has what must come about. -DBUG_... breaks one rule each.
 * -DONE_WORD is a driver that keeps one word for all its ids and overwrites it
 * though an older id may still be in the queue; the device empties its queue
 * before it asks for a report, which is what such a driver needs.
 */
#ifndef PAGES
#define PAGES 1
#endif
#ifndef SLOTS
#define SLOTS 3 /* of the ring: id, page, sign */
#endif

/* Words of free_page_hint_cmd_id; all others are ids. */
#define STOP 0
#define DONE 1

/* What a buffer is: a page's bit, or */
#define ID 4
#define SIGN 5

mtype = { IDLE, REQUESTED, ACCEPTING, COMPLETE, CLOSED, GIVEN_BACK };

/* Registers. Of num_pages only this counts: who has read its last value? */
unsigned hint_cmd_id : 3;
bit interrupt;

/* The device. */
mtype state = IDLE;
unsigned id : 3;
byte more, kind; /* of forget_id() */
bit asking;	    /* a balloon request is half made */
unsigned taken : 3; /* buffers popped and not returned */

/* The queue: what the device has not popped. An id has its own word; a sign
 * carries, for the property alone, the id that it ends. */
chan available = [SLOTS] of { byte, byte };

/* The driver. */
bit seen;     /* the target that it acts on is the last one */
bit read_new; /* so is the one that the handler has read */
bit started, handling;
unsigned config_id : 3; /* as read last */
unsigned reading : 3;	/* as being read */
unsigned active_id : 3; /* answered last */
unsigned id_word : 3;	/* of ONE_WORD */
bit open, exhausted, choosing;

#define ROOM (SLOTS - len(available) - taken)
#define QUIET (taken == 0)
#define UNANSWERED (state == REQUESTED)

/*
 * Device
 */

inline set_register(value)
{
	if
	:: hint_cmd_id != value -> hint_cmd_id = value; interrupt = 1
	:: else
	fi
}

/*
 * Ids are only compared, so one that nobody remembers is as good as one that
 * never was (V7). What stands in the queue is compared with the id of the
 * report that is asked for; all others are one: OLD.
 */
#define OLD 1
#define NOBODYS(n) (hint_cmd_id != n && config_id != n && reading != n && \
		    active_id != n && id_word != n)

#if defined(BUG_ID_REUSED) || defined(BUG_COUNT_AFTER_STOP)
#define WORD active_id
#define forget_id() skip
#else
#define WORD (lent && active_id == id -> id : OLD)

inline forget_id()
{
	id = OLD;
	more = len(available);
	do
	:: more > 0 ->
		available?kind,_;
		available!kind,(kind == ID || kind == SIGN -> OLD : 0);
		more--
	:: else -> break
	od;
	kind = 0
}
#endif

inline next_id()
{
#ifdef BUG_ID_REUSED
	id = 2
#else
	if
	:: NOBODYS(2) -> id = 2
	:: !NOBODYS(2) && NOBODYS(3) -> id = 3
	:: !NOBODYS(2) && !NOBODYS(3) && NOBODYS(4) -> id = 4
	:: !NOBODYS(2) && !NOBODYS(3) && !NOBODYS(4) ->
		assert(NOBODYS(5)); /* there is an id that nobody remembers */
		id = 5
	fi
#endif
}

#ifndef BUG_NO_DRAIN
#define MAY_START (len(available) == 0)
#else
#define MAY_START true
#endif

inline report_start()
{
	MAY_START;
	next_id();
	lent = 1;
	state = REQUESTED;
	set_register(id)
}

inline report_close()
{
	if
	:: !lent
	:: else ->
		lent = 0;
		if
#ifdef BUG_COUNT_AFTER_STOP
		:: state == ACCEPTING
#endif
		:: state == COMPLETE -> state = IDLE
		:: else -> state = CLOSED
		fi;
		forget_id();
		set_register(STOP)
	fi
}

inline report_pause()
{
	if
	:: state == REQUESTED || state == ACCEPTING ->
		set_register(STOP);
		state = COMPLETE
	:: else
	fi
}

inline report_done()
{
	if
	:: id == 0 || state == GIVEN_BACK
	:: else ->
		state = GIVEN_BACK;
		set_register(DONE)
	fi
}

/* An interrupt on its way gets lost with the machine it was for; a guest that
 * has arrived is interrupted whatever there is. */
inline arrive()
{
#ifdef BUG_NO_INTERRUPT_AGAIN
	interrupt = 0
#else
	interrupt = 1
#endif
}

#include "memory.pml"

/* R4, R5, R7: the id opens once, and any out-buffer after it closes. */
inline take_id(value)
{
	if
	:: state == REQUESTED && value == id ->
		state = ACCEPTING;
#ifdef BUG_REGISTER_SHOWS_STOP
		hint_cmd_id = STOP
#endif
	:: state == ACCEPTING -> state = COMPLETE
	:: else
	fi
}

inline take_sign(ends)
{
	if
	:: state == ACCEPTING ->
		claim(ends == id); /* a report is ended by its own sign */
		state = COMPLETE
	:: state == CLOSED -> state = IDLE
	:: else
	fi
}

active proctype device()
{
	byte what, word;

	do
	:: atomic { available?what,word ->
		taken++;
		if
#ifdef ONE_WORD
		:: what == ID -> take_id(id_word)
#else
		:: what == ID -> take_id(word)
#endif
		:: what == SIGN -> take_sign(word)
		:: else ->
			if
			:: state == ACCEPTING -> count_hint(what)
			:: else
			fi
		fi;
		what = 0;
		word = 0 }
	:: atomic { taken != 0 -> taken = 0 }
	od
}

#ifdef TARGETS
active proctype operator()
{
	do
	:: atomic { seen = 0; read_new = 0; asking = 1 };
	   atomic { interrupt = 1; asking = 0 }
	od
}
#endif

/*
 * Driver
 */

active proctype handler()
{
	do
	:: atomic { interrupt || !started ->
		interrupt = 0; started = 1; handling = 1 };
#ifdef TARGETS
	   atomic { read_new = 1 };
#endif
	   atomic { reading = hint_cmd_id };
	   atomic {
		seen = read_new;
		config_id = reading;
		read_new = 0;
		reading = 0;
		handling = 0;
#ifndef BUG_REGISTER_SHOWS_STOP
		if /* what nobody looks at again is forgotten */
		:: active_id != config_id && active_id != hint_cmd_id ->
			active_id = (open -> OLD : 0)
		:: else
		fi
#endif
	   }
	od
}

inline send_id()
{
	open = 1;
	active_id = config_id;
#ifdef ONE_WORD
	id_word = config_id;
#endif
	available!ID,WORD
}

#define TOLD_TO_STOP (!lent || id != active_id || state == COMPLETE)

inline send_sign()
{
	/* a report ends early only where it was told to */
	claim(exhausted || TOLD_TO_STOP);
	open = 0;
	exhausted = 0;
	available!SIGN,WORD;
	if
	:: config_id != active_id -> active_id = 0
	:: else
	fi
}

/* A block that finds no slot is not handed over, or later. */
inline send_block(page)
{
	if
	:: ROOM > 1 -> held = held | page; available!page,0
	:: ROOM <= 1
	:: ROOM <= 1 -> exhausted = 1
	fi
}

#define IS_REQUEST (config_id > DONE && config_id != active_id)

active proctype worker()
{
	do
	:: atomic { open && (config_id != active_id || exhausted) && ROOM > 0 ->
		    send_sign() }
	:: atomic { open && config_id == active_id && !exhausted ->
		    choosing = 1 };
	   atomic { choosing = 0;
		if
		:: !((used | held) & 1) -> send_block(1)
#if PAGES > 1
		:: !((used | held) & 2) -> send_block(2)
#endif
		:: (used | held) == ALL -> exhausted = 1
		fi }
	:: atomic { !open && IS_REQUEST && ROOM > 0 -> send_id() }
	:: atomic { !open && config_id == DONE && held != 0 -> held = 0 }
	od
}

/* What must hold when the handler is at rest and no interrupt waits for it. */
#define AT_REST (started && !interrupt && !handling && !asking)
#ifdef BUG_REGISTER_SHOWS_STOP
#define NO_WORD_LOST true
#else
#define NO_WORD_LOST (config_id == hint_cmd_id)
#endif
#ifdef TARGETS
#define NO_TARGET_LOST seen
#else
#define NO_TARGET_LOST true
#endif

#if !defined(LIVE) && !defined(PAGES_ONLY)
active proctype monitor()
{
	atomic {
		AT_REST && !(NO_TARGET_LOST && NO_WORD_LOST) ->
		assert(!AT_REST || NO_TARGET_LOST); /* no request is lost */
		/* no START, STOP or DONE is lost */
		assert(!AT_REST || NO_WORD_LOST)
	}
}
#endif

#ifdef LIVE
/* What must come about. */
#define GOES_ON (hint_cmd_id == active_id)
ltl stop_seen { [] (open && !GOES_ON -> <> (!open || GOES_ON)) }
ltl start_answered { [] (state == REQUESTED -> <> (state != REQUESTED)) }
ltl given_back {
	[] (hint_cmd_id == DONE -> <> (held == 0 || hint_cmd_id != DONE))
}
#endif
