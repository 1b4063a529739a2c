// SPDX-License-Identifier: MIT
/*
 * The user: asks for this and that at any moment; when all is calm sees to it
 * that everything ends, and that a last report finds all that is free.
 */
#include "sim.h"

#define NS_PER_MS 1000000ull
#define TARGET_MOST 8u

static bool is_here(const struct host *host)
{
	return host->state == HOST_RUNNING || host->state == HOST_PAUSED;
}

/* Asked of a host that has the guest, which is one step with the asking: a move
 * that stops it in between would leave the target behind. */
static void set_target(void)
{
	struct host *host = world.here;

	if (!fault(FAULT_LATE_TARGET))
		host_begin_change(host);
	if (is_here(host)) {
		coroutine_yield();
		world.target = draw(TARGET_MOST + 1);
		trace("user: balloon of %u pages", world.target);
		tally.targets++;
		device_set_target(host, world.target);
	}
	if (!fault(FAULT_LATE_TARGET))
		host_end_change(host);
}

static void ask_statistics(void)
{
	bool asked;

	tally.statistics++;
	device_statistics(world.here, &asked);
}

static void pause_or_resume(void)
{
	struct host *host = world.here;

	host_begin_change(host);
	if (host->state == HOST_RUNNING) {
		trace("user: pauses");
		tally.paused++;
		host->state = HOST_PAUSED;
		host_stop(host);
		device_pause(host);
	} else if (host->state == HOST_PAUSED) {
		trace("user: resumes");
		host->state = HOST_RUNNING;
		host_run(host);
	}
	host_end_change(host);
}

/* The machine boots anew. */
static void reset(void)
{
	struct host *host = world.here;
	enum host_state state;

	host_begin_change(host);
	state = host->state;
	if (is_here(host)) {
		trace("user: resets the machine");
		tally.resets++;
		host_stop(host);
		device_reset(host);
		host->config_irq = false;
		host->queue_irq = 0;
		host_boot(host);
		if (state == HOST_RUNNING)
			host_run(host);
	}
	host_end_change(host);
}

static void disturb(unsigned int how)
{
	if (!world.moving)
		return;
	world.link.disturbed |= how >= 3;
	if (how < 3) {
		trace("user: cancels");
		migration_source_cancel(&world.source);
	} else if (how < 4) {
		trace("link: is cut");
		link_cut(&world.link);
	} else {
		world.link.stalled_until = world.now +
					   (1 + draw(40)) * 1000 * NS_PER_MS;
		trace("link: stalls");
	}
}

static void act(void)
{
	unsigned int die = draw(256);

	if (move_over(NULL))
		move_conclude();
	if (world.lost || !die)
		return;
	if (die <= world.setup.trouble)
		disturb(draw(6));
	else if (die < 13)
		pause_or_resume();
	else if (die < 14)
		reset();
	else if (die < 80)
		set_target();
	else if (die < 96)
		ask_statistics();
	else if (world.here->state == HOST_PAUSED)
		pause_or_resume();
	else
		move_begin();
}

/* ------------------------------------------------------------ the calm --- */

static void settle(void)
{
	coroutine_wait(others_idle, NULL, NEVER);
	check_quiet();
}

static void last_statistics(void)
{
	uint64_t updates = world.here->balloon.statistics.updates;
	bool asked;

	if (!world.guest.ring[BALLOON_STATS].size)
		return;
	device_statistics(world.here, &asked);
	settle();
	if (!asked || world.here->balloon.statistics.updates != updates + 1 ||
	    world.here->balloon.statistics.value[BALLOON_STAT_FREE] !=
		    world.guest.stats_value)
		fail("statistics", "a request was not answered");
}

static void start_report(struct host *host, struct page_set *hinted)
{
	page_set_clear(hinted);
	if (!host->source.ops->start(&host->source, hinted))
		fail("report", "it cannot be asked for");
}

/* One START right behind the STOP, and one behind the DONE, of the last: they
 * wait for it, and are made in the end. */
static void hasty_reports(struct host *host, struct page_set *hinted)
{
	struct free_page_progress progress;
	uint64_t steps = world.seed % 32;

	start_report(host, hinted);
	while (steps--)
		coroutine_yield();
	host->source.ops->drain(&host->source, &progress);
	start_report(host, hinted);
	coroutine_wait(others_idle, NULL, NEVER);
	if (host->balloon.report.state != REPORT_COMPLETE)
		fail("report", "behind another one: state %s",
		     report_state_name(host->balloon.report.state));
	host->source.ops->drain(&host->source, &progress);
	host->source.ops->done(&host->source);
}

/* With nobody in between all that is free is handed over, and given back. With
 * v17 STOP overtakes some of it. */
static void last_report(void)
{
	struct host *host = world.here;
	struct free_page_progress progress;
	unsigned int pages = world.guest.in_state[PAGE_FREE];
	struct page_set hinted;

	page_set_create(&hinted, FRAMES, NULL);
	hasty_reports(host, &hinted);
	/* A register that says DONE for a moment only may go unseen; of v17 the
	 * next STOP may still be the last report's. */
	if (!world.guest.commands)
		settle();
	start_report(host, &hinted);
	coroutine_wait(others_idle, NULL, NEVER);
	if (host->balloon.report.state != REPORT_COMPLETE ||
	    (world.guest.v17 ? page_set_count(&hinted) > pages :
			       page_set_count(&hinted) != pages))
		fail("report", "%llu of %u free pages came, state %s",
		     (unsigned long long)page_set_count(&hinted), pages,
		     report_state_name(host->balloon.report.state));
	host->source.ops->drain(&host->source, &progress);
	host->source.ops->done(&host->source);
	settle();
	page_set_free(&hinted);
}

static void end_move(void)
{
	if (!world.moving)
		return;
	coroutine_wait(move_over, NULL, NEVER);
	move_conclude();
}

void user_main(void *unused)
{
	while (!world.calm && !world.lost) {
		act();
		coroutine_yield();
	}
	world.link.stalled_until = 0;
	end_move();
	if (!world.lost && !world.moves && move_begin())
		end_move();
	if (world.lost)
		return;
	if (world.here->state == HOST_PAUSED)
		pause_or_resume();
	settle();
	last_statistics();
	last_report();
}
