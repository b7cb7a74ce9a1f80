/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a table of a process's privileges.def. Include it once per process, after
 *
 *   #define PRIVILEGES_TABLE netd_privileges
 *   #define PRIVILEGES_FILE "netd/privileges.def"
 *
 * which defines `const struct privileges netd_privileges`. (What a row needs of system headers the includer provides.) Ours are in privileges/.
 */
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "libipc/sandbox.h"

#define PROTOCOL_(value) (value)
#define ANY PROTOCOL_ANY
#define PROCESS(process, account) { .kind = PRIVILEGE_PROCESS, .name = process, .path = account },
#define CAP(capability, reason) { .kind = PRIVILEGE_CAP, .name = #capability, .number = (capability), .why = reason },
#define PATH(access, key, where, reason) \
	{ .kind = PRIVILEGE_PATH, .name = key, .path = where, .number = PATH_##access, .why = reason },
#define SOCKET(family, only, reason) \
	{ .kind = PRIVILEGE_SOCKET, .name = #family, .number = (family), .protocol = PROTOCOL_(only), .path = #only, .why = reason },
#define HOLD(object, reason) { .kind = PRIVILEGE_HOLD, .name = (object), .why = reason },
#define PEER(user, reason) { .kind = PRIVILEGE_PEER, .name = (user), .why = reason },
#define VIEW(as, where, reason) { .kind = PRIVILEGE_VIEW, .name = #as, .path = where, .number = VIEW_##as, .why = reason },
#define START(call, reason) { .kind = PRIVILEGE_START, .name = #call, .number = SCMP_SYS(call), .why = reason },
#define SYS(call, reason) { .kind = PRIVILEGE_SYS, .name = #call, .number = SCMP_SYS(call), .why = reason },
#define SYS_EQ(call, index, wanted, reason)                                                                          \
	{ .kind = PRIVILEGE_SYS, .name = #call, .number = SCMP_SYS(call), .why = reason, .compare = COMPARE_EQ,      \
	  .argument = (index), .value = (uint64_t)(wanted), .path = #wanted },
#define SYS_MASK(call, index, bits, wanted, reason)                                                                  \
	{ .kind = PRIVILEGE_SYS, .name = #call, .number = SCMP_SYS(call), .why = reason, .compare = COMPARE_MASK,    \
	  .argument = (index), .mask = (uint64_t)(bits), .value = (uint64_t)(wanted), .path = "(" #bits ") == " #wanted },
#define SYS_ABSENT(call, reason) \
	{ .kind = PRIVILEGE_SYS, .name = #call, .number = SCMP_SYS(call), .why = reason, .compare = COMPARE_ABSENT },

static const struct privilege privilege_rows_[] = {
#include PRIVILEGES_FILE
};
const struct privileges PRIVILEGES_TABLE = { privilege_rows_, sizeof(privilege_rows_) / sizeof(privilege_rows_[0]) };

#undef PROCESS
#undef CAP
#undef PATH
#undef SOCKET
#undef HOLD
#undef PEER
#undef VIEW
#undef START
#undef SYS
#undef SYS_EQ
#undef SYS_MASK
#undef SYS_ABSENT
#undef ANY
