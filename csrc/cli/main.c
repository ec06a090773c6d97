/* SPDX-License-Identifier: MIT */

/*
 * The installed command: boots a Lua 5.4 state, finds tidemill's Lua files and hands the arguments to tidemill.cli.
 * What the command does is written in Lua (lua/tidemill/cli); here is only what Lua can't do for itself.
 *
 * Lua files are looked for, in this order, in
 *   $TIDEMILL_LUA_DIR            the folder that has tidemill/cli/init.lua
 *   BIN/../lua                   the source tree, when this program lies in its build folder (modules: BIN/lua/5.4)
 *   BIN/../share/lua/5.4         an installation that has been moved as a whole (modules: BIN/../lib/lua/5.4)
 *   the prefix it was built for
 * and at last wherever Lua itself looks (LUA_PATH, LUA_CPATH).
 *
 * Invariants: descriptors 0, 1 and 2 are open before anything else opens one, so that no socket or database file ever
 * stands where standard output was; SIGPIPE is ignored, a reader that went away is an error like any other.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#ifndef TIDE_INSTALL_LUA_DIR
#define TIDE_INSTALL_LUA_DIR "/usr/local/share/lua/5.4"
#endif
#ifndef TIDE_INSTALL_CMOD_DIR
#define TIDE_INSTALL_CMOD_DIR "/usr/local/lib/lua/5.4"
#endif

enum { CLI_PATH_MAX = 4096 };

typedef struct cli_folders {
    char lua[CLI_PATH_MAX];
    char modules[CLI_PATH_MAX]; /* empty: wherever Lua looks */
} cli_folders;

/* A closed descriptor becomes /dev/null, the wrong way round, so that using it still fails. */
static void open_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
                _exit(1);
            }
        }
    }
}

static int join(char *out, const char *folder, const char *rest) {
    int written = snprintf(out, CLI_PATH_MAX, "%s%s", folder, rest);
    return written > 0 && written < CLI_PATH_MAX;
}

static int has_lua_files(const char *folder) {
    char path[CLI_PATH_MAX];
    return join(path, folder, "/tidemill/cli/init.lua") && access(path, R_OK) == 0;
}

/* The folder this program lies in, without a slash at its end; 0 when the system can't say. */
static int program_folder(char *out) {
    ssize_t size = readlink("/proc/self/exe", out, CLI_PATH_MAX - 1);
    if (size <= 0 || size >= CLI_PATH_MAX - 1) {
        return 0;
    }
    out[size] = '\0';
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        return 0;
    }
    *slash = '\0';
    return 1;
}

static int find_folders(cli_folders *folders) {
    char bin[CLI_PATH_MAX];
    int has_bin = program_folder(bin);
    const char *named = getenv("TIDEMILL_LUA_DIR");

    folders->modules[0] = '\0';
    if (has_bin && join(folders->modules, bin, "/lua/5.4")) {
        char module[CLI_PATH_MAX];
        if (!join(module, folders->modules, "/tidemill/core.so") || access(module, R_OK) != 0) {
            if (!join(folders->modules, bin, "/../lib/lua/5.4") ||
                !join(module, folders->modules, "/tidemill/core.so") || access(module, R_OK) != 0) {
                join(folders->modules, TIDE_INSTALL_CMOD_DIR, "");
            }
        }
    }
    if (named != NULL && named[0] != '\0') {
        return join(folders->lua, named, "") && has_lua_files(folders->lua);
    }
    if (has_bin) {
        static const char *const beside[] = {"/../lua", "/../../lua", "/../share/lua/5.4"};
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            if (join(folders->lua, bin, beside[i]) && has_lua_files(folders->lua)) {
                return 1;
            }
        }
    }
    return join(folders->lua, TIDE_INSTALL_LUA_DIR, "") && has_lua_files(folders->lua);
}

/* package[field] = "folder/pattern;" .. package[field] */
static void prepend_path(lua_State *L, const char *field, const char *value) {
    lua_getglobal(L, "package");
    lua_pushstring(L, value);
    lua_getfield(L, -2, field);
    lua_concat(L, 2);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

typedef struct cli_arguments {
    int count;
    char **words;
    const cli_folders *folders; /* NULL: not found */
} cli_arguments;

static int run(lua_State *L) {
    const cli_arguments *arguments = lua_touserdata(L, 1);
    luaL_openlibs(L);
    if (arguments->folders != NULL) {
        const cli_folders *folders = arguments->folders;
        lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;", folders->lua, folders->lua);
        prepend_path(L, "path", lua_tostring(L, -1));
        lua_pop(L, 1);
        if (folders->modules[0] != '\0') {
            lua_pushfstring(L, "%s/?.so;", folders->modules);
            prepend_path(L, "cpath", lua_tostring(L, -1));
            lua_pop(L, 1);
        }
    }
    lua_createtable(L, arguments->count, 1);
    for (int i = 0; i < arguments->count; i++) {
        lua_pushstring(L, arguments->words[i]);
        lua_rawseti(L, -2, i);
    }
    lua_pushvalue(L, -1);
    lua_setglobal(L, "arg");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_pushvalue(L, -3);
    lua_call(L, 1, 1);
    return 1;
}

int main(int argc, char **argv) {
    static cli_folders folders;
    int status = 1;

    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);

    cli_arguments arguments = {argc, argv, find_folders(&folders) ? &folders : NULL};
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fputs("tidemill: out of memory\n", stderr);
        return 1;
    }
    lua_gc(L, LUA_GCGEN, 0, 0);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, &arguments);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        status = (int)lua_tointeger(L, -1);
    } else {
        const char *message = lua_tostring(L, -1);
        if (arguments.folders == NULL)
            message = "its Lua files were not found; TIDEMILL_LUA_DIR can name their folder";
        if (message == NULL)
            message = "cannot start";
        /* Of a module that isn't there Lua lists each place where it has looked, a line each. */
        fprintf(stderr, "tidemill: %.*s\n", (int)strcspn(message, "\n"), message);
    }
    lua_close(L);
    return status;
}
