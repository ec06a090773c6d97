/* SPDX-License-Identifier: MIT */
#include "broker/sqlite/internal.h"
bool tide__sq_command_writes(const tide_op_command *command) {
    (void)command;
    return true;
}
tide_status tide__sq_do_command(tide__sq_store *store, tide__sq_work *work) {
    return tide__sq_refuse(store, work, TIDE_UNSUPPORTED, NULL, "not on this engine");
}
tide_status tide__sq_do_server(tide__sq_store *store, tide__sq_work *work) {
    return tide__sq_refuse(store, work, TIDE_UNSUPPORTED, NULL, "not on this engine");
}
