@echo off
rem Starts the web UI. The first start installs everything into installer_files\ next to this file; nothing outside of it
rem changes except the package client's own cache. Deleting installer_files\ and starting again repairs it.
rem
rem This script only finds a Python and runs one_click.py with it: a private one, which is downloaded and the same
rem everywhere, because prebuilt packages exist for few versions. It is python-build-standalone, pinned by version and
rem SHA-256. PYTHON_MIRROR=URL replaces the address below. If it is not available, an installed Python 3.12 is used.
rem Programs are run with "call", so that one that is itself a .bat returns.
rem Delayed expansion stays off, so that ! in a path is a normal character; no block contains a path, so that ( ) are, too.
setlocal EnableExtensions DisableDelayedExpansion

set "release=20261110"
set "version=3.12.16"
set "sha256=355ee61b8207b91574491b1c6dc9b0ebb4408fc56bfafe498f3ef439314b52dc"
set "mirror=https://github.com/astral-sh/python-build-standalone/releases/download"
if defined PYTHON_MIRROR set "mirror=%PYTHON_MIRROR%"

rem Every "call" would expand a percent sign in the path. Checked before and after, because it affects "cd" itself.
set "find=%SystemRoot%\System32\find.exe"
cd | "%find%" "%%" >nul
if not errorlevel 1 goto percent
cd /d "%~dp0"
if not exist "start_windows.bat" goto no_folder
cd | "%find%" "%%" >nul
if not errorlevel 1 goto percent
set "here=%cd%"

rem Does not work with Python environments; one_click.py checks it again.
if not "%here:;=%"=="%here%" goto semicolon
rem Characters in the path other than letters, digits and a few signs: they work here, but cause errors in some packages.
set "odd="
for /f "delims=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:\/._- eol=" %%a in ("%here%") do set "odd=%%a"
if not "%here: =%"=="%here%" echo The path of this folder contains a space: "%here%"
if defined odd echo The path of this folder contains characters that some Windows packages cannot handle: "%here%"
if defined odd goto warned
if "%here: =%"=="%here%" goto path_is_fine
:warned
echo The web UI itself works there. If something fails to install or load, move the folder to a plain path,
echo such as C:\text-generation-webui, delete installer_files in it, then start again.
:path_is_fine

rem Windows allows 260 characters, of which the packages' files need 136; one_click.py warns from 50 on.
set "long=%here:~124%"
if not defined long goto short_enough
reg query "HKLM\SYSTEM\CurrentControlSet\Control\FileSystem" /v LongPathsEnabled 2>nul | "%find%" "0x1" >nul
if errorlevel 1 goto too_long
:short_enough

if not exist "one_click.py" goto incomplete
if not exist "installer\__init__.py" goto incomplete

rem Variables that change where Python finds its modules are meant for other programs (same list as in
rem installer/environment/variables.py).
for %%v in (PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE) do set "%%v="

rem A finished environment is started directly, unless it is to be replaced.
set "python=%here%\installer_files\env\Scripts\python.exe"
if defined WEBUI_EXCHANGE goto find
if not exist "%python%" goto find
call "%python%" -I -c "" >nul 2>nul
if not errorlevel 1 goto run

:find
if /i "%WEBUI_NEVER_INSTALL%"=="yes" goto never
if "%WEBUI_NEVER_INSTALL%"=="1" goto never
rem Only a 64-bit Python 3.12 with venv counts. The Microsoft Store's placeholder for python fails here, as it should.
set "test=import sys, ssl, ctypes, venv, ensurepip; sys.exit(not (sys.version_info[:2] == (3, 12) and sys.maxsize > 2**32))"
set "python=%here%\installer_files\python\python.exe"
if not exist "%python%" goto fetch
call "%python%" -I -c "%test%" >nul 2>nul
if not errorlevel 1 goto run

:fetch
echo Downloading a private Python %version% (20 MB) into installer_files ...
if not exist "installer_files" mkdir "installer_files"
if not exist "installer_files" goto read_only
set "part=%here%\installer_files\python.part"
if exist "%part%" rmdir /s /q "%part%"
mkdir "%part%"
if not exist "%part%" goto read_only
rem The address is passed in a file: "call" would expand the percent sign in it.
>"%part%\address.txt" echo url = "%mirror%/%release%/cpython-%version%%%2B%release%-x86_64-pc-windows-msvc-install_only_stripped.tar.gz"
set "why=no_network"
call curl -fL -# --connect-timeout 20 --retry 2 -o "%part%\python.tar.gz" -K "%part%\address.txt"
if errorlevel 1 goto without
set "hash="
for /f "skip=1 delims=" %%h in ('certutil -hashfile "%part%\python.tar.gz" SHA256') do call :take_hash "%%h"
set "why=wrong_hash"
if /i not "%hash%"=="%sha256%" goto without
set "why=not_unpacked"
call tar -xf "%part%\python.tar.gz" -C "%part%"
if errorlevel 1 goto without
if exist "installer_files\python" rmdir /s /q "installer_files\python"
move "%part%\python" "%here%\installer_files\python" >nul
if errorlevel 1 goto without
rmdir /s /q "%part%"
set "python=%here%\installer_files\python\python.exe"
call "%python%" -I -c "%test%" >nul 2>nul
if errorlevel 1 goto does_not_run
goto run

rem Delete what was begun, and the folder if it is empty. Without a network, an installed 3.12 is used.
:without
if exist "%part%" rmdir /s /q "%part%"
rmdir "installer_files" >nul 2>nul
if not "%why%"=="no_network" goto %why%
call py -3.12 -I -c "%test%" >nul 2>nul
if not errorlevel 1 goto run_launcher
set "python=python"
call python -I -c "%test%" >nul 2>nul
if not errorlevel 1 goto run_installed
goto %why%

:take_hash
if defined hash exit /b
set "hash=%~1"
set "hash=%hash: =%"
exit /b

:run_launcher
echo The private Python could not be downloaded; using the installed Python 3.12.
call py -3.12 "%here%\one_click.py" %*
goto ended

:run_installed
echo The private Python could not be downloaded; using the installed Python 3.12.

:run
call "%python%" "%here%\one_click.py" %*

:ended
set "code=%errorlevel%"
if "%code%"=="0" exit /b 0
echo.
echo Failed with error code %code%. See the message above.
goto stop

:no_folder
echo The folder of this file cannot be opened. If it is on a network drive, map the drive to a letter, then start again from there.
goto failed
:percent
echo The path of this folder contains a percent sign, which does not work in the Windows command line. Move the folder to a path without one, such as C:\text-generation-webui, then start again.
goto failed
:too_long
echo The path of this folder is too long: with the package files, it would exceed the 260 characters that Windows allows. Move the folder to a short path, such as C:\text-generation-webui, then start again.
goto failed
:never
echo No working environment was found, and WEBUI_NEVER_INSTALL is set. Unset it and start once.
goto failed
:semicolon
echo The folder path contains a semicolon, which separates paths and does not work with Python environments. Move the folder, then start again: "%here%"
goto failed
:incomplete
echo one_click.py or the folder installer is missing in "%here%". Download the complete project (git clone, or unpack the whole archive), then start again.
goto failed
:read_only
echo This folder is not writable: "%here%". Move it out of Program Files, or change its permissions, then start again.
goto failed
:no_network
echo Python could not be downloaded. Check the network connection (and HTTPS_PROXY, if you need a proxy) and the disk space, then start again. Or install Python 3.12 yourself.
goto failed
:wrong_hash
echo The downloaded Python has the wrong checksum (SHA-256) and was deleted. Start again; if it happens again, something in your network changes downloads.
goto failed
:not_unpacked
echo The downloaded Python could not be unpacked. Check the disk space, then start again.
goto failed
:does_not_run
echo The downloaded Python does not run on this system. Install Python 3.12 (64-bit) yourself, then start again.
goto failed

:failed
set "code=1"
:stop
rem The window would close with the message in it. Programs that start this file set WEBUI_NO_PAUSE.
if not defined WEBUI_NO_PAUSE pause
exit /b %code%
