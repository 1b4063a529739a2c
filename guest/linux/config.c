// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The handler: what the host asks for through the configuration space. It is a
 * work item, for reading a register may sleep, and leaves the guest; an
 * interrupt only queues it. One that comes while it runs has it run once more.
 */
#include <linux/virtio_config.h>

#include "balloon.h"

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define HINT_ID offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)

/* All fields are single words, little-endian with legacy devices, too (L3). */
u32 balloon_config_read(struct balloon *b, unsigned int offset)
{
	__le32 word;

	balloon_count(COUNT_CONFIG_READS, 1);
	b->vdev->config->get(b->vdev, offset, &word, sizeof(word));
	return le32_to_cpu(word);
}

void balloon_config_write(struct balloon *b, unsigned int offset, u32 value)
{
	__le32 word = cpu_to_le32(value);

	balloon_count(COUNT_CONFIG_WRITES, 1);
	b->vdev->config->set(b->vdev, offset, &word, sizeof(word));
}

/* Nothing says what has changed, so all of it is read. */
static void handle_standard(struct balloon *b)
{
	u32 target = balloon_config_read(b, NUM_PAGES);
	u32 id;

	balloon_count(COUNT_REQUESTS, target != b->target);
	WRITE_ONCE(b->target, target);
	if (!b->queue[BALLOON_FREE_PAGE])
		return;
	id = balloon_config_read(b, HINT_ID);
	balloon_count(COUNT_REQUESTS, id != b->standard.config_id);
	mutex_lock(&b->decision_lock);
	report_driver_config(&b->standard, id);
	mutex_unlock(&b->decision_lock);
}

static enum command_access next_access(struct balloon *b, u32 *offset,
				       u32 *value)
{
	enum command_access access;

	mutex_lock(&b->decision_lock);
	access = command_driver_handle(&b->command, offset, value);
	mutex_unlock(&b->decision_lock);
	return access;
}

static void handle_commands(struct balloon *b)
{
	enum command_access access;
	u32 offset, value = 0;

	while ((access = next_access(b, &offset, &value))) {
		if (access == COMMAND_ACCESS_READ) {
			value = balloon_config_read(b, offset);
			continue;
		}
		balloon_count(COUNT_REQUESTS, hweight32(value));
		balloon_config_write(b, offset, value);
	}
	WRITE_ONCE(b->target, b->command.target);
}

void balloon_handle_config(struct work_struct *work)
{
	struct balloon *b = container_of(work, struct balloon, config_work);

	if (b->commands)
		handle_commands(b);
	else
		handle_standard(b);
	if (balloon_driver_adjust(b->target, READ_ONCE(b->actual)))
		balloon_queue_adjust(b, 0);
	if (b->queue[BALLOON_FREE_PAGE])
		balloon_queue_worker(b, &b->report_work);
}
