@echo off
rem Starts the web UI. The first start installs everything into installer_files\ next to this file; nothing outside of it
rem is touched but the package client's own cache. Deleting installer_files\ and starting again repairs it.
rem
rem This file only finds a Python that can do the rest, which is one_click.py: a private one, which is fetched and is the
rem same everywhere, as ready-made packages exist for few versions. It is python-build-standalone, pinned by version and
rem SHA-256. PYTHON_MIRROR=URL replaces the address below. Where it cannot be had, an installed Python 3.12 serves.
rem Programs are called by "call", so that one that is a .bat itself comes back.
rem Delayed expansion stays off, so that ! in a path is an ordinary letter; no block holds a path, so that ( ) are, too.
setlocal EnableExtensions DisableDelayedExpansion

set "release=20261110"
set "version=3.12.16"
set "sha256=355ee61b8207b91574491b1c6dc9b0ebb4408fc56bfafe498f3ef439314b52dc"
set "mirror=https://github.com/astral-sh/python-build-standalone/releases/download"
if defined PYTHON_MIRROR set "mirror=%PYTHON_MIRROR%"

rem Every "call" would take a percent sign in the path for one of its own. Before and after, as it disturbs "cd" itself.
set "find=%SystemRoot%\System32\find.exe"
cd | "%find%" "%%" >nul
if not errorlevel 1 goto percent
cd /d "%~dp0"
if not exist "start_windows.bat" goto no_folder
cd | "%find%" "%%" >nul
if not errorlevel 1 goto percent
set "here=%cd%"

rem What Python environments really cannot live with; one_click.py looks again.
if not "%here:;=%"=="%here%" goto semicolon
rem What stands in the path besides plain letters, digits and a few signs: it works here, but trips some packages.
set "odd="
for /f "delims=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:\/._- eol=" %%a in ("%here%") do set "odd=%%a"
if not "%here: =%"=="%here%" echo The path of this folder holds a space: "%here%"
if defined odd echo The path of this folder holds letters or signs that some Windows packages cannot read: "%here%"
if defined odd goto warned
if "%here: =%"=="%here%" goto path_is_fine
:warned
echo The web UI itself works there. If something fails to install or to load, move the folder to a plain path,
echo such as C:\text-generation-webui, delete installer_files in it, and start again.
:path_is_fine

rem Windows allows 260 characters in all, and files of the packages need 136 of them; one_click.py warns from 50 on.
set "long=%here:~124%"
if not defined long goto short_enough
reg query "HKLM\SYSTEM\CurrentControlSet\Control\FileSystem" /v LongPathsEnabled 2>nul | "%find%" "0x1" >nul
if errorlevel 1 goto too_long
:short_enough

if not exist "one_click.py" goto incomplete
if not exist "installer\__init__.py" goto incomplete

rem What changes where a Python finds its modules is meant for other programs (installer/variables.py has the same list).
for %%v in (PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONOPTIMIZE) do set "%%v="

rem A finished environment starts by itself, unless it is to be exchanged.
set "python=%here%\installer_files\env\Scripts\python.exe"
if defined WEBUI_EXCHANGE goto find
if not exist "%python%" goto find
call "%python%" -I -c "" >nul 2>nul
if not errorlevel 1 goto run

:find
if /i "%WEBUI_NEVER_INSTALL%"=="yes" goto never
if "%WEBUI_NEVER_INSTALL%"=="1" goto never
rem Only a 64-bit Python 3.12 with venv counts. The Store's stand-in for python fails here, as it should.
set "test=import sys, ssl, ctypes, venv, ensurepip; sys.exit(not (sys.version_info[:2] == (3, 12) and sys.maxsize > 2**32))"
set "python=%here%\installer_files\python\python.exe"
if not exist "%python%" goto fetch
call "%python%" -I -c "%test%" >nul 2>nul
if not errorlevel 1 goto run

:fetch
echo Fetching a private Python %version% (20 MB) into installer_files ...
if not exist "installer_files" mkdir "installer_files"
if not exist "installer_files" goto read_only
set "part=%here%\installer_files\python.part"
if exist "%part%" rmdir /s /q "%part%"
mkdir "%part%"
if not exist "%part%" goto read_only
rem The address goes in a file: "call" would take the percent sign in it for one of its own.
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

rem What was begun is taken away, the folder too where nothing else is in it. Without a network an installed 3.12 serves.
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
echo The private Python could not be had; the installed Python 3.12 is used.
call py -3.12 "%here%\one_click.py" %*
goto ended

:run_installed
echo The private Python could not be had; the installed Python 3.12 is used.

:run
call "%python%" "%here%\one_click.py" %*

:ended
set "code=%errorlevel%"
if "%code%"=="0" exit /b 0
echo.
echo It ended with the error code %code%; the reason stands above.
goto stop

:no_folder
echo The folder of this file cannot be entered. A network drive needs a letter: map it, and start again from there.
goto failed
:percent
echo The path of this folder holds a percent sign, which the Windows command line takes for one of its own. Move the folder to a path without one, such as C:\text-generation-webui, and start again.
goto failed
:too_long
echo The path of this folder is too long: with the files of the packages it would pass the 260 characters that Windows allows. Move the folder to a short path, such as C:\text-generation-webui, and start again.
goto failed
:never
echo There is no environment here that runs, and WEBUI_NEVER_INSTALL forbids to make one. Unset it and start once.
goto failed
:semicolon
echo The folder name contains a semicolon, which separates paths: Python environments cannot work with it. Move the folder and start again: "%here%"
goto failed
:incomplete
echo one_click.py or the folder installer is missing in "%here%". Get the complete project (git clone, or unpack the whole archive) and start again.
goto failed
:read_only
echo This folder cannot be written to: "%here%". Move it out of Program Files, or change its permissions, and start again.
goto failed
:no_network
echo Python could not be downloaded: check the network connection (and HTTPS_PROXY, if you need a proxy) and the space on the disk, then start again. Or install Python 3.12 yourself.
goto failed
:wrong_hash
echo The downloaded Python is not the expected file (its SHA-256 differs), so it was thrown away. Start again; if it happens again, something on the way changes downloads.
goto failed
:not_unpacked
echo The downloaded Python could not be unpacked: is the disk full? Free some space and start again.
goto failed
:does_not_run
echo The downloaded Python does not run on this system. Install Python 3.12 (64 bit) yourself and start again.
goto failed

:failed
set "code=1"
:stop
rem The window would close with the message in it. Programs that start this file set WEBUI_NO_PAUSE.
if not defined WEBUI_NO_PAUSE pause
exit /b %code%
