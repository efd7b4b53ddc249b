/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of a container, by the names that host and guest have for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/cleanup.h"
#include "shim/devices.h"

#define DEVICE(...)                                                                         \
	{                                                                                   \
		PROTOBUF_C_MESSAGE_INIT(&podvm__agent__v1__device__descriptor), __VA_ARGS__ \
	}

/* /dev/zero, under another name, and a device that this kernel doesn't know. */
static const struct spec_plan wanted = {
	.devices = { { .path = "/dev/mine", .major = 1, .minor = 5 },
		     { .path = "/dev/odd/one", .major = 4000, .minor = 1 } },
	.n_devices = 2,
};

static void test_names_are_the_kernels(void **state)
{
	_cleanup_(device_plan_done) struct device_plan p = { 0 };
	struct spec_plan plan = wanted;

	assert_int_equal(devices_of_spec(&p, &plan, NULL), 0);
	assert_int_equal(p.names.n, 2);
	assert_string_equal(p.names.v[0], "zero");
	assert_string_equal(p.names.v[1], "odd/one");
}

static void test_block_devices_are_disks(void **state)
{
	Podvm__Agent__V1__Device answers[] = {
		DEVICE(.found = true, .major = 1, .minor = 5),
		DEVICE(.found = true, .block = true, .major = 8, .minor = 16,
		       .name = (char *)"sdb"),
	};
	Podvm__Agent__V1__Device *pointers[] = { &answers[0], &answers[1] };
	Podvm__Agent__V1__LookupDevicesResponse resp =
		PODVM__AGENT__V1__LOOKUP_DEVICES_RESPONSE__INIT;
	_cleanup_(device_plan_done) struct device_plan p = { 0 };
	struct spec_plan plan = {
		.devices = { { .path = "/dev/xvda", .block = true, .major = 7 },
			     { .path = "/dev/zero", .major = 1, .minor = 5 } },
		.n_devices = 2,
	};
	struct err e = { 0 };

	assert_int_equal(devices_of_spec(&p, &plan, NULL), 0);
	assert_int_equal(p.names.n, 1);
	assert_int_equal(devices_add_disk(&p, NULL, &plan.devices[0], NULL, NULL), 0);
	resp.devices = pointers;
	resp.n_devices = 2;
	assert_int_equal(devices_found(&p, &resp, &plan, NULL), 0);
	assert_int_equal(plan.devices[0].guest_major, 8);
	assert_int_equal(plan.devices[0].guest_minor, 16);
	assert_int_equal(plan.devices[1].guest_minor, 5);
	answers[1].name = (char *)"../sdb";
	assert_int_equal(devices_found(&p, &resp, &plan, &e), -ENODEV);
}

static void test_numbers_are_the_guests(void **state)
{
	Podvm__Agent__V1__Device answers[] = {
		DEVICE(.found = true, .major = 1, .minor = 5),
		DEVICE(.found = true, .major = 240, .minor = 9),
		DEVICE(.found = true, .major = 10, .minor = 229),
	};
	Podvm__Agent__V1__Device *pointers[] = { &answers[0], &answers[1], &answers[2] };
	Podvm__Agent__V1__LookupDevicesResponse resp =
		PODVM__AGENT__V1__LOOKUP_DEVICES_RESPONSE__INIT;
	_cleanup_(device_plan_done) struct device_plan p = { 0 };
	struct spec_plan plan = wanted;

	assert_int_equal(devices_of_spec(&p, &plan, NULL), 0);
	/* One that is mounted. */
	assert_int_equal(devices_add(&p, "fuse", "/dev/fuse", NULL), 0);
	resp.devices = pointers;
	resp.n_devices = 3;
	assert_int_equal(devices_found(&p, &resp, &plan, NULL), 0);
	assert_int_equal(plan.devices[1].guest_major, 240);
	assert_int_equal(plan.devices[1].guest_minor, 9);
}

static void test_what_the_guest_has_not_got(void **state)
{
	Podvm__Agent__V1__Device answers[] = {
		DEVICE(.found = true, .major = 1, .minor = 5),
		DEVICE(.found = false),
	};
	Podvm__Agent__V1__Device *pointers[] = { &answers[0], &answers[1] };
	Podvm__Agent__V1__LookupDevicesResponse resp =
		PODVM__AGENT__V1__LOOKUP_DEVICES_RESPONSE__INIT;
	_cleanup_(device_plan_done) struct device_plan p = { 0 };
	struct spec_plan plan = wanted;
	struct err e = { 0 };

	assert_int_equal(devices_of_spec(&p, &plan, NULL), 0);
	resp.devices = pointers;
	resp.n_devices = 2;
	assert_int_equal(devices_found(&p, &resp, &plan, &e), -ENODEV);
	assert_string_equal(e.msg, "the guest has no device \"odd/one\"");
	assert_non_null(strstr(e.hint, "/dev/odd/one"));
	/* A privileged container has the host's whole list: what isn't there is left out. */
	plan.any_device = true;
	assert_int_equal(devices_found(&p, &resp, &plan, NULL), 0);
	assert_false(plan.devices[0].absent);
	assert_true(plan.devices[1].absent);
	plan.any_device = false;
	/* A block device of that name is something else. */
	answers[1].found = answers[1].block = true;
	assert_int_equal(devices_found(&p, &resp, &plan, &e), -ENODEV);
	/* The guest isn't to be trusted. */
	resp.n_devices = 1;
	assert_int_equal(devices_found(&p, &resp, &plan, &e), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_the_kernels),
		cmocka_unit_test(test_block_devices_are_disks),
		cmocka_unit_test(test_numbers_are_the_guests),
		cmocka_unit_test(test_what_the_guest_has_not_got),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
