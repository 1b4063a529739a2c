// SPDX-License-Identifier: MIT
/*
 * The command-register protocol: docs/spec/command-register.md, whose rules are
 * cited by number. README.md says what stands for what.
 *
 * -DRESET adds a driver that is unloaded and loaded again at any moment.
 * -DTARGETS adds balloon requests.
 * -DBARE leaves out the content of memory. -DLIVE has what must come about.
 * -DBUG_... breaks one rule each.
 */
#ifndef PAGES
#define PAGES 1
#endif
#ifndef SLOTS
#define SLOTS 3 /* of the ring: id, page, sign */
#endif
#ifdef BUG_CONCURRENT_HANDLERS
#define HANDLERS 2
#else
#define HANDLERS 1
#endif

/* Bits of cmd_reg. */
#define BALLOONING 1
#define START 2
#define STOP 4
#define DONE 8

/* What a buffer is: a page's bit, or */
#define ID 4
#define SIGN 5

mtype = { IDLE, REQUESTED, ACCEPTING, COMPLETE, CLOSED, GIVEN_BACK };

/* Registers. Of num_pages only this counts: who has read its last value? */
unsigned cmd_reg : 4;
unsigned cmd_id_reg : 3;
bit interrupt;

/* The device. */
mtype state = IDLE;
unsigned id : 3;
bit sign_due, sign_taken, stop_raised, deferred;
bit asking;	    /* a balloon request is half made */
unsigned taken : 3; /* buffers popped and not returned */

/* The queue: what the device has not popped. The second word is not sent, and
 * only compared by the properties: the START the driver answers. */
chan available = [SLOTS] of { byte, byte };

/* The driver. */
bit seen; /* the target that it acts on is the last one */
bit read_new[HANDLERS]; /* so is the one that a handler has read */
bit started;
unsigned handling : 2; /* handlers that run */
unsigned cmd_id : 3;
unsigned id_word : 3;
bit start, stop, done, open, exhausted;
bit choosing; /* the worker looked at the flag, and takes a block next */

/* A STOP was made for the last START, or DONE. */
bit stop_made;

#define ROOM (SLOTS - len(available) - taken)
#define QUIET (taken == 0)
#define UNANSWERED (state == REQUESTED)

/*
 * Device
 */

inline raise(bits)
{
#ifdef QUIET_REPEAT /* what D-1 allows */
	if
	:: (cmd_reg & bits) == 0 -> interrupt = 1
	:: else
	fi;
	cmd_reg = cmd_reg | bits
#else
	cmd_reg = cmd_reg | bits;
	interrupt = 1
#endif
}

#ifdef BUG_START_WHILE_SIGN_DUE
#define SIGN_HOLDS 0
#else
#define SIGN_HOLDS sign_due
#endif
#if defined(BUG_START_WHILE_DONE_PENDING)
#define PENDING_HOLDS (START | STOP)
#elif defined(BUG_START_WHILE_STOP_PENDING)
#define PENDING_HOLDS (START | DONE)
#else
#define PENDING_HOLDS (START | STOP | DONE)
#endif

/* D-3 */
#define CAN_START (deferred && !SIGN_HOLDS && !(cmd_reg & PENDING_HOLDS))

inline make_start()
{
	deferred = 0;
	sign_due = 1;
	sign_taken = 0;
	stop_raised = 0;
	stop_made = 0;
	cmd_id_reg = id;
	raise(START)
}

/* D-4. Ids are only compared, so one that nobody remembers is as good as one
 * that never was; and a word that nobody reads again is forgotten. */
#ifdef BUG_SIGN_BY_CONFIG
#define FORGET(word) skip
#else
#define FORGET(word) word = 0
#endif
#define NOBODYS(n) (cmd_id_reg != n && cmd_id != n && id_word != n)

inline next_id()
{
	if
	:: NOBODYS(2) -> id = 2
	:: !NOBODYS(2) && NOBODYS(3) -> id = 3
	:: !NOBODYS(2) && !NOBODYS(3) && NOBODYS(4) -> id = 4
	:: else -> id = 5
	fi
}

inline request_stop()
{
	if
	:: deferred -> deferred = 0
	:: !deferred && sign_due && !sign_taken && !stop_raised ->
		stop_raised = 1;
		stop_made = 1;
		raise(STOP)
	:: else
	fi
}

inline report_start()
{
	next_id();
	lent = 1;
	state = REQUESTED;
	deferred = 1 /* the device looks when it pleases */
}

/* Does the guest owe a word for it? */
#define CLOSED_STATE (sign_due || (state != COMPLETE && !deferred) -> \
		      CLOSED : IDLE)

inline report_close()
{
	if
	:: !lent
	:: else ->
		lent = 0;
#ifdef BUG_COUNT_AFTER_STOP
		if
		:: state == ACCEPTING
		:: else -> state = CLOSED_STATE
		fi;
#else
		state = CLOSED_STATE;
#endif
		request_stop()
	fi
}

inline report_pause()
{
	if
	:: state == REQUESTED || state == ACCEPTING ->
		request_stop();
		state = COMPLETE
	:: else
	fi
}

/* D-8 */
inline report_done()
{
	if
	:: id == 0 || state == GIVEN_BACK
	:: else ->
		state = GIVEN_BACK;
		stop_made = 1;
		raise(DONE)
	fi
}

/* D-9. An interrupt on its way may get lost with the machine it was for. */
inline arrive()
{
	interrupt = 0;
	deferred = 0;
	stop_raised = 0;
#ifdef BUG_DESTINATION_FORGETS
	sign_due = 0;
	state = IDLE;
#endif
#ifdef BUG_DESTINATION_FORGETS_REQUESTS
	cmd_reg = 0;
#endif
#ifndef BUG_NO_INTERRUPT_AGAIN
	if
	:: cmd_reg != 0 -> interrupt = 1
	:: else
	fi;
#endif
	if
	:: state == CLOSED && !sign_due -> state = IDLE
	:: else
	fi
}

#include "memory.pml"

/* D-5. What must hold: a sign answers the START that was made last, once. */
inline take_sign(answers)
{
	/* a sign answers its own START, once */
	claim(sign_due && !sign_taken && answers == cmd_id_reg);
	sign_taken = 1;
	if
	:: state == ACCEPTING || (state == REQUESTED && !deferred) ->
		state = COMPLETE
	:: else
	fi;
#ifdef BUG_IDLE_ON_TAKING
	sign_returned();
#endif
}

inline sign_returned()
{
	sign_taken = 0;
	sign_due = 0;
	stop_raised = 0;
	FORGET(cmd_id_reg);
	if
	:: state == CLOSED -> state = IDLE
	:: else
	fi
}

/* D-6 */
inline take_id(value)
{
	if
	:: state == ACCEPTING -> state = COMPLETE
	:: state == REQUESTED && !deferred && value == id -> state = ACCEPTING
	:: else
	fi
}

active proctype device()
{
	byte what, answers;

	do
	:: atomic { available?what,answers ->
		taken++;
		if
		:: what == SIGN || (what == ID && id_word == 0) ->
			take_sign(answers)
		:: what == ID && id_word != 0 ->
			take_id(id_word);
			FORGET(id_word)
		:: else ->
			if
			:: state == ACCEPTING -> count_hint(what)
			:: else
			fi
		fi;
		what = 0;
		answers = 0 }
	:: atomic { taken != 0 ->
		taken = 0;
		if
		:: sign_taken -> sign_returned()
		:: else
		fi }
	:: atomic { CAN_START -> make_start() }
	od
}

#if HANDLERS > 1
#define NEW_TARGET seen = 0; read_new[0] = 0; read_new[1] = 0
#else
#define NEW_TARGET seen = 0; read_new[0] = 0
#endif

#ifdef TARGETS
active proctype operator()
{
	do
#ifdef BUG_BIT_BEFORE_REGISTER
	:: atomic { cmd_reg = cmd_reg | BALLOONING; interrupt = 1; asking = 1 };
	   atomic { NEW_TARGET; asking = 0 }
#else /* D-1: the register, the bit, the interrupt */
	:: atomic { NEW_TARGET; asking = 1 };
	   atomic { raise(BALLOONING); asking = 0 }
#endif
	od
}
#endif

/*
 * Driver
 */

inline tell_worker(bits)
{
	if
	:: bits & START -> start = 1;
#ifndef BUG_WORKER_CLEARS_STOP
			   stop = 0
#endif
	:: else
	fi;
	if
	:: (bits & (STOP | DONE)) && (start || open) -> stop = 1
	:: else
	fi;
	if
	:: bits & DONE ->
#ifdef BUG_HANDLER_RELEASES
			  held = 0
#else
			  done = 1
#endif
	:: else
	fi
}

#define ACKNOWLEDGE atomic { cmd_reg = cmd_reg & ~bits }

inline handle(me)
{
	unsigned bits : 4;
	bit read;

	do
	:: atomic { interrupt || !started ->
		interrupt = 0;
		handling++;
		bits = cmd_reg;
		read = !started || (bits & BALLOONING) != 0;
		started = 1 };
#ifndef BUG_ACK_AFTER_READ
	   if
	   :: bits != 0 -> ACKNOWLEDGE
	   :: else
	   fi;
#endif
	   if
	   :: read -> atomic { read_new[me] = 1 }
	   :: else
	   fi;
	   if
	   :: bits & START -> atomic { cmd_id = cmd_id_reg }
	   :: else
	   fi;
#ifdef BUG_ACK_AFTER_READ
	   if
	   :: bits != 0 -> ACKNOWLEDGE
	   :: else
	   fi;
#endif
	   atomic {
		if
		:: read -> seen = read_new[me]
		:: else
		fi;
		tell_worker(bits);
		read = 0;
		read_new[me] = 0;
		bits = 0;
		handling-- }
	od
}

active proctype handler() { handle(0) }
#if HANDLERS > 1
active proctype second_handler() { handle(1) }
#endif

inline send_id()
{
	claim(ROOM == SLOTS); /* all slots are back when START comes */
	start = 0;
	open = 1;
	id_word = cmd_id;
#ifdef BUG_WORKER_CLEARS_STOP
	stop = 0;
#endif
	available!ID,0
}

inline send_sign()
{
	/* a report ends early only where it was told to */
	claim(exhausted || stop_made);
	start = 0;
	open = 0;
	exhausted = 0;
	stop = 0;
#ifdef BUG_SIGN_BY_CONFIG
	take_sign(cmd_id);
	sign_returned()
#else
	claim(ROOM > 0); /* there is a slot for the sign */
#ifdef BUG_ONE_BUFFER
	id_word = 0;
#endif
	available!SIGN,cmd_id;
	FORGET(cmd_id)
#endif
}

#ifdef BUG_NO_SLOT_KEPT
#define KEPT 0
#else
#define KEPT 1 /* slot, for the sign (G-6) */
#endif

/* A block that finds no slot is not handed over, or later. */
inline send_block(page)
{
	if
	:: ROOM > KEPT -> held = held | page; available!page,0
	:: ROOM <= KEPT
	:: ROOM <= KEPT -> exhausted = 1
	fi
}

#ifdef BUG_WORKER_CLEARS_STOP
#define SEES_STOP 0
#else
#define SEES_STOP stop
#endif

active proctype worker()
{
	do
	:: atomic { open && (stop || exhausted) -> send_sign() }
	:: atomic { open && !stop && !exhausted -> choosing = 1 };
	   atomic { choosing = 0;
		if
		:: !((used | held) & 1) -> send_block(1)
#if PAGES > 1
		:: !((used | held) & 2) -> send_block(2)
#endif
		:: (used | held) == ALL -> exhausted = 1
		fi }
	:: atomic { !open && start && SEES_STOP -> send_sign() }
	:: atomic { !open && !(start && SEES_STOP) && done ->
		    held = 0; done = 0 }
	:: atomic { !open && start && !SEES_STOP && !done -> send_id() }
	od
}

#ifdef RESET
/* G-8, D-7: handler and worker end, the pages go back, the device is reset; and
 * then a new driver begins. */
active proctype unloader()
{
	do
	:: atomic { !handling && !choosing && QUIET ->
		held = 0;
		start = 0; stop = 0; done = 0; open = 0; exhausted = 0;
		started = 0; cmd_id = 0; id_word = 0; seen = 0; read_new[0] = 0;
		do
		:: available?_,_
		:: empty(available) -> break
		od;
		cmd_reg = 0; cmd_id_reg = 0;
		sign_due = 0; sign_taken = 0; stop_raised = 0; deferred = 0;
		stop_made = 0;
#ifndef BARE
		if
		:: lent -> hinted = 0
		:: else
		fi;
#endif
		lent = 0;
		state = IDLE;
		interrupt = 0 }
	od
}
#endif

/*
 * What must hold whenever nothing is on its way to the driver: the handler is
 * at rest, and no interrupt waits for it.
 */
#define AT_REST (started && !interrupt && !handling && !asking)
#define NO_REQUEST_LOST (cmd_reg == 0 && seen)
#define NO_STOP_LOST (!stop_raised || stop || !(open || start))
#define NO_START_LOST (!sign_due || sign_taken || open || start || \
		       len(available) > 0)
#define NO_DONE_LOST (state != GIVEN_BACK || open || start || done || held == 0)

#if !defined(LIVE) && !defined(PAGES_ONLY)
active proctype monitor()
{
	atomic {
		AT_REST && !(NO_REQUEST_LOST && NO_STOP_LOST && NO_START_LOST &&
			     NO_DONE_LOST) ->
		assert(!AT_REST || NO_REQUEST_LOST); /* no request is lost */
		assert(!AT_REST || NO_STOP_LOST); /* no STOP is lost */
		assert(!AT_REST || NO_START_LOST); /* no START is lost */
		assert(!AT_REST || NO_DONE_LOST) /* no DONE is lost */
	}
}
#endif

#ifdef LIVE
/* What must come about. */
ltl sign_comes { [] (sign_due -> <> !sign_due) }
ltl start_answered { [] (state == REQUESTED -> <> (state != REQUESTED)) }
ltl start_made { [] (deferred -> <> !deferred) }
ltl done_acknowledged { [] (cmd_reg & DONE -> <> !(cmd_reg & DONE)) }
ltl target_read { [] (cmd_reg & BALLOONING -> <> !(cmd_reg & BALLOONING)) }
ltl given_back {
	[] (state == GIVEN_BACK -> <> (held == 0 || state != GIVEN_BACK))
}
#endif
