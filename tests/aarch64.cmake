# aarch64.cmake: toolchain file of the cross build for 64-bit Arm; tests run under qemu-aarch64.
#   cmake -S . -B build/aarch64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=tests/aarch64.cmake -DWK_SYSROOT=FOLDER
# FOLDER holds the outside libraries as Debian's arm64 packages unpack them; tests/aarch64.sh fills it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_C_FLAGS_INIT -DWK_EMULATED=1) # tests with a clock are patient
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES WK_SYSROOT)

set(wk_libs ${WK_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(wk_more_libs ${WK_SYSROOT}/lib/aarch64-linux-gnu)
foreach(kind EXE SHARED)
    set(CMAKE_${kind}_LINKER_FLAGS_INIT "-Wl,-rpath-link,${wk_libs}:${wk_more_libs}")
endforeach()
set(CMAKE_CROSSCOMPILING_EMULATOR
    qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=${wk_libs}:${wk_more_libs})

# pkg-config sees nothing of the building machine, and keeps /usr/include, which here is the sysroot's.
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_PATH} "")
set(ENV{PKG_CONFIG_LIBDIR} ${wk_libs}/pkgconfig:${WK_SYSROOT}/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${WK_SYSROOT})
set(ENV{PKG_CONFIG_ALLOW_SYSTEM_CFLAGS} 1)
set(ENV{PKG_CONFIG_ALLOW_SYSTEM_LIBS} 1)

set(CMAKE_FIND_ROOT_PATH ${WK_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
