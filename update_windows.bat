@echo off
rem Brings the web UI up to date: the project by git, then its environment. The old environment is kept;
rem "update_windows.bat --go-back" brings it back, "update_windows.bat --repair" makes a new one of the same version.
setlocal EnableExtensions DisableDelayedExpansion
set "WEBUI_EXCHANGE=1"
set "what=%*"
if not defined what set "what=--update"
call "%~dp0start_windows.bat" %what%
set "code=%errorlevel%"
if "%code%"=="0" if not defined WEBUI_NO_PAUSE pause
exit /b %code%
